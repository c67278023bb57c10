"""The font script takes the pinned font from the nearest place and never leaves another one behind."""

import hashlib
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "fetch_font.py"
PINNED = b"the pinned font"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, pinned to a small file, on a machine without fonts and without apt."""
    spec = importlib.util.spec_from_file_location("fetch_font", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "SHA256", hashlib.sha256(PINNED).hexdigest())
    monkeypatch.setattr(module, "SYSTEM_FONT_FOLDERS", (tmp_path / "system",))
    monkeypatch.setenv("PATH", str(tmp_path / "no-programs"))
    monkeypatch.delenv("CLOISONNE_FONT", raising=False)
    return module


def font(path: Path, content: bytes = PINNED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_takes_the_font_that_the_variable_names(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOISONNE_FONT", str(font(tmp_path / "mine.ttf")))
    target = tmp_path / "fonts" / "NotoColorEmoji.ttf"
    assert script.fetch_font(target).read_bytes() == PINNED
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_refuses_another_font_that_the_variable_names(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOISONNE_FONT", str(font(tmp_path / "mine.ttf", b"another")))
    with pytest.raises(script.FontError, match=r"mine\.ttf, which is not the pinned font: unset it"):
        script.fetch_font(tmp_path / "target.ttf")
    assert not (tmp_path / "target.ttf").exists()


def test_passes_over_other_versions_among_the_systems_fonts(script: ModuleType, tmp_path: Path) -> None:
    font(tmp_path / "system" / "a" / "NotoColorEmoji.ttf", b"another")
    font(tmp_path / "system" / "b" / "NotoColorEmoji.ttf")
    assert script.fetch_font(tmp_path / "target.ttf").read_bytes() == PINNED


def test_replaces_another_version_and_keeps_the_pinned_one(script: ModuleType, tmp_path: Path) -> None:
    system = font(tmp_path / "system" / "NotoColorEmoji.ttf")
    target = font(tmp_path / "target.ttf", b"another")
    assert script.fetch_font(target).read_bytes() == PINNED
    system.unlink()
    assert script.fetch_font(target) == target


def test_says_how_to_get_the_font_by_hand(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(script.FontError, match=r"no apt-get.*snapshots that Debian keeps.*CLOISONNE_FONT"):
        script.fetch_font(tmp_path / "target.ttf")
    monkeypatch.setattr(script, "fetch_font", lambda: script.download(tmp_path))
    assert script.main() == 1
    assert "CLOISONNE_FONT" in capsys.readouterr().err
