"""Quantised weights: how files store them, and the layers that compute with them."""
