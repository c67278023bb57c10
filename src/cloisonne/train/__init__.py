"""Training: one resumable loop, and one file for each member of the built-in family."""
