"""The command line: ``cloisonne generate SCENE -o OUT`` and its siblings."""
