"""The extras of the package: what their commands import, and the error where it is not installed."""

from collections.abc import Mapping
from importlib.util import find_spec

from cloisonne.errors import CapabilityError

EXTRAS: Mapping[str, Mapping[str, str]] = {
    "studio": {
        "fastapi": "fastapi",
        "starlette": "starlette",
        "uvicorn": "uvicorn",
        "h11": "h11",
        "itsdangerous": "itsdangerous",
        "python_multipart": "python-multipart",
        "platformdirs": "platformdirs",
    },
    "train": {"peft": "peft", "tokenizers": "tokenizers"},
    "eval": {"sklearn": "scikit-learn", "scipy": "scipy", "yaml": "pyyaml"},
    "gguf": {"gguf": "gguf"},
    "psd": {"psd_tools": "psd-tools"},
    "ray": {"ray": "ray"},
}
"""By extra: the modules that it brings, and the package of each."""


def check_extra(extra: str, what: str, *modules: str) -> None:
    """Refuse what needs modules that are not installed.

    Args:
        extra: a key of ``EXTRAS``.
        what: what needs them, as the subject of a sentence.
        *modules: those of the extra that it needs; all of them if none is given.

    Raises:
        CapabilityError: names the missing packages and the command that installs them.
    """
    packages = EXTRAS[extra]
    missing = [packages[module] for module in modules or packages if find_spec(module) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise CapabilityError(
            f'{what} needs {", ".join(missing)}, which {verb} not installed; run: pip install "cloisonne[{extra}]"'
        )
