"""The conditions of a region besides its phrase, one file per kind; ``kinds.py`` is their table."""
