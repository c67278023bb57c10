"""How idle threads wait."""

import os


def wait_passively() -> None:
    """Let idle OpenMP threads sleep, not spin, in this process and its children.

    An ``OMP_WAIT_POLICY`` that is set already stays. OpenMP reads it when its library is loaded, so set it before torch
    is imported. The number of threads, and with it every image, stays the same.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
