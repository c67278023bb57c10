"""Text encoders, textual inversions, learned concepts and vocabularies."""
