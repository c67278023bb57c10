"""LoRA files of every trainer: names, forms, fusing."""
