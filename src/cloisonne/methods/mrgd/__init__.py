"""MRGD: region-aware editing of a before/after pair (Li et al., AAAI 2024)."""
