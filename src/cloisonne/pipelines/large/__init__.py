"""Images larger than a model's native size: in two passes, and by windows."""
