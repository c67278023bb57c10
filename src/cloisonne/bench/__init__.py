"""Runs the benchmarks with this package's own pipelines."""
