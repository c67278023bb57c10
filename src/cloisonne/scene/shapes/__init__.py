"""Shapes of regions: boxes, polygons, masks, run-length encodings."""
