"""Pictures to train on: a folder with COCO annotations, or the procedural world."""
