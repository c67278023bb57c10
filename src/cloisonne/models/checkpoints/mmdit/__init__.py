"""Readers of folders of diffusion transformers, one file per family."""
