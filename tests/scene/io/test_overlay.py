import numpy as np
from PIL import Image

from cloisonne.scene import Region, draw_regions

GREY = Image.new("L", (128, 64), 128)


def test_outlines_lie_on_the_edges() -> None:
    region = Region(name="pet", box=(0.25, 0.25, 0.75, 0.75), phrase="a cat")
    drawn = np.asarray(draw_regions(GREY, (region,)))
    assert drawn.shape == (512, 1024, 3)
    changed = (drawn != 128).any(axis=2)
    assert changed[128:384, 256].all()
    assert changed[383, 256:768].all()
    assert not changed[:120].any()
    assert not changed[300:370, 300:700].any()


def test_every_shape_and_a_long_name_fit_in() -> None:
    faint = np.zeros((8, 8))
    faint[5:, 5:] = 0.2
    regions = (
        Region(name="a" * 100, ellipse=(0.5, 0.5, 1, 1), phrase="a"),
        Region(name="sky ☕", mask=faint, phrase="b", feather=0.3),
        Region(name="c", polygon=[(0, 0), (1, 0), (0, 1)], phrase="c"),
    )
    drawn = draw_regions(GREY, regions)
    assert (drawn.mode, drawn.size) == ("RGB", (1024, 512))
    assert len(np.unique(np.asarray(drawn).reshape(-1, 3), axis=0)) > 4


def test_nothing_is_drawn_without_regions() -> None:
    large = Image.effect_noise((600, 700), 50).convert("RGB")
    assert (np.asarray(draw_regions(large, ())) == np.asarray(large)).all()
