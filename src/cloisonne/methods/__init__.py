"""One paper, one file: what a region of each kind compiles to."""
