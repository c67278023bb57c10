"""The command line: ``cloisonne generate SCENE -o OUT`` and the other commands."""
