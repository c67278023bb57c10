"""Procedural images with exact ground truth, for training and evaluating the built-in model family."""
