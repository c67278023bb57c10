"""The benchmarks, run with this package's own pipelines."""
