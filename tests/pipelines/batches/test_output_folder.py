"""The folder of a batch: at whatever operation a process ends, each image has a line and each line an image."""

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from batches import check_whole, contents, manifest

from cloisonne.errors import OutputError
from cloisonne.pipelines.batches.manifest import Line, Maker
from cloisonne.pipelines.batches.output_folder import OutputFolder, finished_lines

MAKER = Maker(model="m", device="cpu", dtype="float32", threads=1)


def line(name: str, png: bytes, **changes: Any) -> Line:
    values: dict[str, Any] = {
        "file": f"{name}.png",
        "name": name,
        "scene": "s" * 64,
        "seed": 1,
        "width": 8,
        "height": 8,
    }
    values |= {"sha256": hashlib.sha256(png).hexdigest(), "dropped": (), "warnings": ("ä \ud800 \n",)}
    return Line(**{**values, "model": "m", "device": "cpu", "dtype": "float32", "threads": 1, **changes})


def add(folder: OutputFolder, name: str, **changes: Any) -> None:
    png = f"picture {name} {changes}".encode() * 100
    folder.add(line(name, png, **changes), png)


def has(folder: OutputFolder, name: str, scene: str = "s" * 64, seed: int = 1, maker: Maker = MAKER) -> bool:
    return folder.has(f"{name}.png", scene, seed, maker)


class Killed(BaseException):
    """Stands for the end of the process: nothing in the package handles it."""


@pytest.mark.parametrize("fatal", range(1, 14))
def test_an_end_between_any_two_operations_loses_and_repeats_nothing(
    fatal: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call of the system's writing operations is the last one, once."""
    count = 0

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == fatal:
                raise Killed
            return original(*given, **options)

        return call

    folder = OutputFolder(tmp_path)
    for name in ("fsync", "write"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    monkeypatch.setattr(Path, "replace", counted(Path.replace))
    names = ("a", "b", "c")
    added = []
    try:
        for name in names:
            add(folder, name)
            added.append(name)
    except Killed:
        pass
    monkeypatch.undo()
    folder.close()  # as the system does
    with OutputFolder(tmp_path) as again:
        left = [name for name in names if not has(again, name)]
        assert not set(left) & set(added)
        for name in left:
            add(again, name)
    assert set(check_whole(tmp_path)) == {"a.png", "b.png", "c.png"}


@pytest.mark.parametrize("kept", range(0, 300, 23))
def test_a_torn_line_is_removed(kept: int, tmp_path: Path) -> None:
    with OutputFolder(tmp_path) as folder:
        add(folder, "a")
        add(folder, "b")
    path = tmp_path / "manifest.jsonl"
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[:kept])
    (tmp_path / "b.png").rename(tmp_path / f".b.png.{manifest_hash(second)}.tmp")
    with OutputFolder(tmp_path) as folder:
        assert has(folder, "a")
        assert not has(folder, "b")
        assert path.read_bytes() == first
        add(folder, "b")
    assert path.read_bytes() == first + second
    check_whole(tmp_path)


def manifest_hash(text: bytes) -> str:
    import json

    return json.loads(text)["sha256"][:16]


@pytest.mark.parametrize("place", ["image", "line"])
def test_a_full_disk_is_a_sentence_and_leaves_nothing(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes half of what is written to it."""
    with OutputFolder(tmp_path) as folder:
        add(folder, "a")
        before, lines = contents(tmp_path), (tmp_path / "manifest.jsonl").read_bytes()
        write = os.write

        def full(file: int, *given: Any) -> int:
            if place == "image":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return write(file, given[0][: len(given[0]) // 2])

        monkeypatch.setattr(os, "fsync" if place == "image" else "write", full)
        with pytest.raises(OutputError, match=r"No space left on device\); free space"):
            add(folder, "b")
        monkeypatch.undo()
        assert contents(tmp_path) == before
        assert (tmp_path / "manifest.jsonl").read_bytes() == lines
        add(folder, "b")
    check_whole(tmp_path)


def test_an_image_that_was_deleted_is_missing(tmp_path: Path) -> None:
    with OutputFolder(tmp_path) as folder:
        add(folder, "a")
        add(folder, "b")
    (tmp_path / "a.png").unlink()
    assert [one.file for one in finished_lines(tmp_path)] == ["b.png"]
    with OutputFolder(tmp_path) as folder:
        assert (has(folder, "a"), has(folder, "b")) == (False, True)


@pytest.mark.parametrize("change", [{"scene": "t" * 64}, {"seed": 2}], ids=str)
def test_another_image_of_the_name_is_replaced_only_where_that_is_allowed(change: Any, tmp_path: Path) -> None:
    with OutputFolder(tmp_path) as folder:
        add(folder, "a")
        with pytest.raises(OutputError, match="another scene or model"):
            has(folder, "a", **change)
    with OutputFolder(tmp_path, overwrite=True) as folder:
        assert has(folder, "a")
        assert not has(folder, "a", **change)
        add(folder, "a", **change)
        assert has(folder, "a", **change)
    assert [one.sha256 for one in finished_lines(tmp_path)] == [contents(tmp_path)["a.png"]]
    assert len(manifest(tmp_path)) == 2


def test_files_of_others_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("mine")
    with OutputFolder(tmp_path) as folder, pytest.raises(OutputError, match="not in the folder's manifest"):
        has(folder, "a")
    with OutputFolder(tmp_path, overwrite=True) as folder:
        assert not has(folder, "a")


OTHERS = [
    Maker(model="n", device="cpu", dtype="float32", threads=1),
    Maker(model="m", device="cpu", dtype="float16", threads=1),
    Maker(model="m", device="cpu", dtype="float32", threads=2),
    Maker(model="m", device="cuda (a chip)", dtype="float32", threads=1),
]


@pytest.mark.parametrize("other", OTHERS, ids=str)
def test_images_of_another_maker_are_not_mixed(other: Maker, tmp_path: Path) -> None:
    with OutputFolder(tmp_path) as folder:
        folder.check_maker(other)
        add(folder, "a")
    with OutputFolder(tmp_path) as folder:
        folder.check_maker(MAKER)
        with pytest.raises(OutputError, match=r"were made with .* and not"):
            folder.check_maker(other)
    with OutputFolder(tmp_path, overwrite=True) as folder:
        folder.check_maker(other)
        assert not has(folder, "a", maker=other)


def test_chips_of_one_kind_go_on_with_each_others_work(tmp_path: Path) -> None:
    chips = [Maker(model="m", device=f"cuda:{k} (a chip)", dtype="float16", threads=k + 1) for k in range(2)]
    assert chips[0].key() == chips[1].key()


def test_a_folder_belongs_to_one_process(tmp_path: Path) -> None:
    with OutputFolder(tmp_path), pytest.raises(OutputError, match="Another process writes"):
        OutputFolder(tmp_path)
    OutputFolder(tmp_path).close()


@pytest.mark.parametrize("text", ["{}\n", "[]\n", "hello\n", '{"file": "../a.png"}\n'])
def test_another_manifest_is_refused_and_unchanged(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_text(text)
    for _ in range(2):
        with pytest.raises(OutputError, match="is no manifest of images"):
            OutputFolder(tmp_path)
    assert (tmp_path / "manifest.jsonl").read_text() == text


def test_lines_name_files_of_the_folder_alone(tmp_path: Path) -> None:
    with OutputFolder(tmp_path) as folder:
        add(folder, "a")
    path = tmp_path / "manifest.jsonl"
    path.write_text(path.read_text().replace('"a.png"', '"../a.png"'))
    with pytest.raises(OutputError, match="outside of its folder"):
        OutputFolder(tmp_path)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        OutputFolder(tmp_path / "a")
