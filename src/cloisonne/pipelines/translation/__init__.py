"""Image-to-image translation by a concept from one reference image (VCT)."""
