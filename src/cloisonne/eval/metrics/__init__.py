"""Metrics of layouts, control, edits and holes, and their confidence intervals."""
