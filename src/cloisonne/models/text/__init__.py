"""Text encoders and learned words."""
