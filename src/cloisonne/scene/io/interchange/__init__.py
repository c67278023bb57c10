"""Scenes from and for other tools: a file a format, ``importing.py`` and ``exporting.py`` for all of them.

A reader returns the scene, and a sentence for each part that was changed or that a scene cannot hold.
"""
