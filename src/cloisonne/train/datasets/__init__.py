"""Training examples from COCO annotations or the procedural world."""
