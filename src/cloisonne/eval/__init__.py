"""How pictures are judged: the judge, metrics, benchmarks and their tables."""
