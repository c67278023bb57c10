"""How the threads of a command wait for work."""

import os


def wait_passively() -> None:
    """Let idle OpenMP threads sleep, not spin, in this process and those that it starts.

    The environment's own ``OMP_WAIT_POLICY`` is left as it is. OpenMP reads it when its library is loaded, so it has to
    be set before torch is imported. The number of threads, and with it every picture, stays the same.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
