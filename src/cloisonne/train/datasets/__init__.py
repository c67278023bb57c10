"""Training images from COCO annotations or the procedural world."""
