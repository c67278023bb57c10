"""Benchmarks of layouts whose images an open-vocabulary detector judges: COCO, COCO-MIG, T2I-CompBench."""
