"""``python -m cloisonne`` is the command ``cloisonne``."""

from cloisonne.cli.main import main

if __name__ == "__main__":
    main()
