"""Evaluation: the judge, metrics, benchmarks and their tables."""
