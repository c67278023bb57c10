"""``python -m cloisonne`` is the command ``cloisonne``."""

from cloisonne.cli.main import start

if __name__ == "__main__":
    start()
