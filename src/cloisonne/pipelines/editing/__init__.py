"""Edits of several regions of a before/after pair or a given image."""
