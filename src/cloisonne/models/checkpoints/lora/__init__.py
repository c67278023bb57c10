"""LoRA files of all common trainers: tensor names, forms and fusing."""
