"""Readers and writers of checkpoints in all supported layouts."""
