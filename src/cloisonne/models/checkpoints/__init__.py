"""Readers and writers of checkpoints in every supported layout."""
