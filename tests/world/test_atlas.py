"""Sprites: tight, premultiplied, rendered once; the error without font and cache."""

from pathlib import Path

import numpy as np
import pytest

from cloisonne.cache_folder import cache_folder
from cloisonne.errors import ImageError
from cloisonne.world import atlas as module
from cloisonne.world.atlas import SPRITE, atlas, draw_sprites, find_font
from cloisonne.world.glyphs import HELD_OUT, TRAINING

COUNT = len(TRAINING) + len(HELD_OUT)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without font, cache or settings."""
    monkeypatch.delenv("CLOISONNE_ATLAS", raising=False)
    monkeypatch.setenv("CLOISONNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "find_font", lambda: None)
    return tmp_path


def drawn(value: int) -> np.ndarray:
    return np.full((COUNT, SPRITE, SPRITE, 4), value, np.uint8)


def test_every_glyph_has_a_sprite() -> None:
    sprites = atlas()
    assert set(sprites) == set(TRAINING + HELD_OUT)
    for sprite in sprites.values():
        height, width = sprite.shape[:2]
        assert SPRITE - 4 <= max(height, width) <= SPRITE
        colours, alpha = sprite[..., :3].astype(int), sprite[..., 3:].astype(int)
        assert (colours <= alpha + 1).all(), "premultiplied"
        edges = (sprite[0], sprite[-1], sprite[:, 0], sprite[:, -1])
        assert all(edge[..., 3].max() > 20 for edge in edges), "tight"


def test_sprites_differ() -> None:
    assert len({sprite.tobytes() for sprite in atlas().values()}) == COUNT


def test_without_font_or_cache_the_error_explains_how_to_get_one(bare: Path) -> None:
    with pytest.raises(ImageError, match=r"No emoji font was found.*make font.*fonts-noto-color-emoji.*CLOISONNE_FONT"):
        atlas.__wrapped__()
    assert not (bare / "cache").exists()


def test_font_is_drawn_once(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_font", lambda: Path("a font"))
    monkeypatch.setattr(module, "draw_sprites", lambda font, chars: drawn(200))
    first = atlas.__wrapped__()
    assert [path.suffix for path in (bare / "cache").iterdir()] == [".npz"]
    monkeypatch.setattr(module, "find_font", lambda: None)
    again = atlas.__wrapped__()
    np.testing.assert_array_equal(first["🐱"], again["🐱"])


def test_named_atlas_is_taken(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(bare / "mine.npz", sprites=drawn(99))
    monkeypatch.setenv("CLOISONNE_ATLAS", str(bare / "mine.npz"))
    assert atlas.__wrapped__()["🐱"].max() == 99


def test_font_is_looked_for(monkeypatch: pytest.MonkeyPatch, workdir: Path) -> None:
    monkeypatch.setenv("CLOISONNE_FONT", str(workdir / "named.ttf"))
    (workdir / ".font").mkdir()
    local = workdir / ".font" / "NotoColorEmoji.ttf"
    local.write_bytes(b"")
    assert find_font() == local
    (workdir / "named.ttf").write_bytes(b"")
    assert find_font() == workdir / "named.ttf"


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CLOISONNE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "cloisonne"
    monkeypatch.setenv("CLOISONNE_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


@pytest.mark.skipif(find_font() is None, reason="no emoji font on this machine")
def test_font_gives_what_the_cache_holds() -> None:
    font = find_font()
    assert font is not None
    for char, sprite in zip("🐱🔑", draw_sprites(font, "🐱🔑"), strict=True):
        rows, columns = np.nonzero(sprite[..., 3].max(1) > 20)[0], np.nonzero(sprite[..., 3].max(0) > 20)[0]
        np.testing.assert_array_equal(atlas()[char], sprite[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    with pytest.raises(ImageError, match=r"draws nothing for U\+0020: use the pinned version"):
        draw_sprites(font, " ")
