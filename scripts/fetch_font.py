"""Install the pinned version of Noto Color Emoji into .font/: ``make font``.

The font comes from ``CLOISONNE_FONT``, from the system's font folders, or from Debian's package, without root. The
images of the procedural world depend on the glyphs' pixels, so only the version with the pinned SHA-256 is accepted.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "fonts-noto-color-emoji"
PACKAGE_VERSION = "2.042-0+deb12u1"
SHA256 = "e5899ed38b8ed83e08bd3ac5de09791e9d19d288333a796de1d35ad17396f1ec"
TARGET = Path(__file__).resolve().parents[1] / ".font" / "NotoColorEmoji.ttf"
SYSTEM_FONT_FOLDERS = (
    Path("/usr/share/fonts"),
    Path("/usr/local/share/fonts"),
    Path("~/.local/share/fonts").expanduser(),
    Path("~/Library/Fonts").expanduser(),
)
BY_HAND = (
    f"take {PACKAGE} {PACKAGE_VERSION} from the snapshots that Debian keeps of all package versions, unpack it "
    "(dpkg -x, or ar and tar) and set CLOISONNE_FONT to the NotoColorEmoji.ttf inside."
)


class FontError(RuntimeError):
    """The pinned font was not found; the message explains how to get it manually."""


def fetch_font(target: Path = TARGET) -> Path:
    """Copy the pinned font to ``target``, unless it is there, and return ``target``.

    Raises FontError if CLOISONNE_FONT names another file, or if neither this machine nor apt has the font.
    """
    if is_pinned(target):
        return target
    if named := os.environ.get("CLOISONNE_FONT"):
        if not is_pinned(Path(named)):
            raise FontError(f"CLOISONNE_FONT names {named}, which is not the pinned font: unset it, or {BY_HAND}")
        return install(Path(named), target)
    for font in system_fonts():
        if is_pinned(font):
            return install(font, target)
    with tempfile.TemporaryDirectory() as folder:
        return install(unpack(download(Path(folder))), target)


def is_pinned(font: Path) -> bool:
    """Whether ``font`` is a file with the pinned SHA-256."""
    if not font.is_file():
        return False
    with font.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == SHA256


def system_fonts() -> Iterator[Path]:
    """Every NotoColorEmoji.ttf in the system's and the user's font folders."""
    for folder in SYSTEM_FONT_FOLDERS:
        yield from folder.rglob(TARGET.name)


def install(font: Path, target: Path) -> Path:
    """Copy ``font`` to ``target`` in one step, so that no reader sees an incomplete font."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as copy:
        copy.write(font.read_bytes())
    os.chmod(copy.name, 0o644)
    os.replace(copy.name, target)
    return target


def download(folder: Path) -> Path:
    """Download the Debian package into ``folder`` with apt-get and return it.

    The system's package lists are tried first; if they are missing or stale, separate lists are fetched into
    ``folder``. If the pinned version is gone, another one is downloaded, since its font may be the same.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise FontError(f"The emoji font is not on this machine, and there is no apt-get to download it: {BY_HAND}")
    lists, cache = folder / "lists", folder / "cache"
    (lists / "partial").mkdir(parents=True)
    (cache / "archives" / "partial").mkdir(parents=True)
    own_lists = (f"Dir::State::lists={lists}", f"Dir::Cache={cache}")
    attempts = (
        ((), ("download", f"{PACKAGE}={PACKAGE_VERSION}")),
        (own_lists, ("update",)),
        (own_lists, ("download", f"{PACKAGE}={PACKAGE_VERSION}")),
        (own_lists, ("download", PACKAGE)),
    )
    for options, command in attempts:
        output = apt_get(folder, options, command)
        if package := next(folder.glob("*.deb"), None):
            return package
    raise FontError(f"apt-get could not fetch the emoji font ({output}): check the connection and retry, or {BY_HAND}")


def apt_get(folder: Path, options: tuple[str, ...], command: tuple[str, ...]) -> str:
    """Run ``apt-get COMMAND`` in ``folder`` without root and return the last line of its output."""
    # apt run by root switches to a user without write access to the folder.
    settings = ("APT::Sandbox::User=root", "Acquire::Retries=1", "Acquire::http::Timeout=30", *options)
    flags = [flag for setting in settings for flag in ("-o", setting)]
    run = subprocess.run(
        ["apt-get", "-q", *flags, *command], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return (run.stdout.strip().splitlines() or [""])[-1]


def unpack(package: Path) -> Path:
    """Unpack a Debian package next to itself and return its font. Raises FontError if it is not the pinned one."""
    folder = package.parent / "unpacked"
    subprocess.run(["dpkg", "-x", str(package), str(folder)], check=True)
    for font in folder.rglob(TARGET.name):
        if is_pinned(font):
            return font
    raise FontError(f"{package.name} does not hold the pinned font, {PACKAGE_VERSION}: {BY_HAND}")


def main() -> int:
    """Fetch the font and print its path, or one sentence on how to get it."""
    try:
        print(f"The emoji font is {fetch_font()}")
    except FontError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
