"""``python -m cloisonne`` is the command ``cloisonne``."""

from cloisonne.app.cli import main

if __name__ == "__main__":
    main()
