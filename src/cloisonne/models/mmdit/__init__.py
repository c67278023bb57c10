"""Diffusion transformers with joint attention of text and image tokens."""
