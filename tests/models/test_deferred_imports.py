"""Deferred modules are imported when they are used, and not before; their users see no difference."""

import importlib.metadata
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from cloisonne.models.deferred_imports import LISTING, Finder, Remembering, defer, end_deferral, list_once, stored

SOURCE = """
import builtins
builtins.heavy_was_imported = True

class Kind:
    size = 3

class Error(Exception): pass

def doubled(x, *, plus=0):
    return 2 * x + plus
"""


@pytest.fixture
def heavy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Finder]:
    """A deferred package ``heavy`` with a module ``heavy.inner``."""
    (tmp_path / "heavy").mkdir()
    for name in ("__init__", "inner"):
        (tmp_path / "heavy" / f"{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    finder = defer(["heavy"])
    yield finder
    sys.meta_path.remove(finder)
    for name in [name for name in sys.modules if name.split(".")[0] == "heavy"]:
        del sys.modules[name]
    vars(sys.modules["builtins"]).pop("heavy_was_imported", None)


def was_imported() -> bool:
    return "heavy_was_imported" in vars(sys.modules["builtins"])


def names() -> Any:
    """What a library imports at its top, of a type that this test file cannot know."""
    import heavy  # pyright: ignore[reportMissingImports]
    import heavy.inner  # pyright: ignore[reportMissingImports]
    from heavy.inner import Kind, doubled  # pyright: ignore[reportMissingImports]

    return heavy, Kind, doubled


USES = {
    "a call": lambda heavy, kind, doubled: doubled(2, plus=1) == 5,
    "an attribute": lambda heavy, kind, doubled: kind.size == 3,
    "an object": lambda heavy, kind, doubled: kind().size == 3,
    "a subclass": lambda heavy, kind, doubled: _subclass(kind)().size == 3,
    "a name of the package": lambda heavy, kind, doubled: heavy.doubled(1) == 2,
    "a module of the package": lambda heavy, kind, doubled: heavy.inner.doubled(1) == 2,
}


def _subclass(kind: Any) -> Any:
    class Own(kind):
        pass

    return Own


@pytest.mark.parametrize("use", USES)
def test_a_use_imports_the_module(heavy: Finder, use: str) -> None:
    found = names()
    assert not was_imported()
    assert USES[use](*found)
    assert was_imported()
    import heavy.inner as real  # pyright: ignore[reportMissingImports]

    assert real.__file__.endswith("inner.py")
    assert isinstance(real.Kind(), found[1])


def test_nothing_is_an_instance_of_a_class_that_is_not_imported(heavy: Finder) -> None:
    _, kind, _ = names()
    assert not isinstance(3, kind)
    assert not issubclass(int, kind)
    assert (kind | int) is Any
    assert not was_imported()


def test_released_modules_are_found_again(heavy: Finder) -> None:
    names()
    heavy.release()
    assert "heavy" not in sys.modules
    from heavy import Kind  # pyright: ignore[reportMissingImports]

    assert isinstance(Kind, type)


def test_no_module_is_deferred_after_the_end(heavy: Finder) -> None:
    end_deferral()
    assert names()[1].size == 3
    assert isinstance(names()[1], type)


def test_a_module_that_is_imported_stays(heavy: Finder) -> None:
    import json

    finder = defer(["json"])
    try:
        import json as again

        assert again is json
    finally:
        sys.meta_path.remove(finder)


def test_a_folder_is_listed_once_and_what_was_found_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
import os
calls = []
def names(folder):
    calls.append(folder)
    inner = [names(entry.path)["names"] for entry in os.scandir(folder) if entry.is_dir() and entry.name != "cache"]
    return {"names": [str(folder), *inner]}
"""
    (tmp_path / "listing.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("CLOISONNE_CACHE", str(tmp_path / "cache"))
    finder = Remembering("listing", "names")
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    import listing  # pyright: ignore[reportMissingImports]

    outer, inner = tmp_path / "outer", tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    (outer / "file.py").write_text("")
    first = listing.names(str(outer))
    first["names"].append("changed")
    for path in (str(outer), outer, outer / "file.py"):
        assert listing.names(path) == {"names": [str(outer), [str(inner)]]}
    assert listing.calls == [str(outer), str(inner)]
    assert listing.names(str(inner)) == {"names": [str(inner)]}
    assert len(listing.calls) == 3
    assert len(list((tmp_path / "cache" / "listings").iterdir())) == 2
    del sys.modules["listing"]


def test_what_is_stored_counts_for_the_same_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOISONNE_CACHE", str(tmp_path / "cache"))
    folder, calls = tmp_path / "models", list[int]()
    (folder / "one" / "inner").mkdir(parents=True)
    source = folder / "one" / "inner" / "a.py"
    source.write_text("x = 1")

    def made() -> bytes:
        calls.append(1)
        return str(len(calls)).encode()

    def again() -> bytes:
        return stored([str(folder), __file__, None], made)

    assert (again(), again()) == (b"1", b"1")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "a.py").write_text("")
    assert again() == b"1"
    source.write_text("xy = 1")
    assert (again(), again()) == (b"2", b"2")
    time = source.stat().st_mtime_ns
    os.utime(source, ns=(time, time + 1))
    assert (again(), again()) == (b"3", b"3")
    source.rename(folder / "b.py")
    assert (again(), again()) == (b"4", b"4")
    (file,) = (tmp_path / "cache" / "listings").iterdir()
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert (again(), again()) == (b"5", b"5")
    file.write_bytes(b"")
    assert (again(), again()) == (b"6", b"6")
    monkeypatch.setenv("CLOISONNE_CACHE", str(source.parent.parent / "file"))
    (source.parent.parent / "file").write_text("")
    assert (again(), again()) == (b"7", b"8")


def test_the_listing_of_transformers_is_there() -> None:
    module, function = LISTING
    assert callable(getattr(import_module(module), function))


def test_what_is_installed_is_listed_at_the_first_request(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, calls = importlib.metadata.packages_distributions, list[int]()

    def listing() -> Any:
        calls.append(1)
        return plain()

    monkeypatch.setattr(importlib.metadata, "packages_distributions", listing)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    list_once()
    found = importlib.metadata.packages_distributions()
    assert not calls
    assert "torch" in found
    assert found == importlib.metadata.packages_distributions() == plain()
    assert calls == [1]
    assert any(isinstance(finder, Remembering) for finder in sys.meta_path)
