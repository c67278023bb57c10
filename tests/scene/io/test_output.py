import io
import os

import numpy as np
import pytest
from PIL import Image

from cloisonne.errors import OutputError
from cloisonne.scene import Source, check_output, write_picture
from cloisonne.scene.io.image_ref import ImageRef

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8))


def test_every_format_by_its_extension(tmp_path) -> None:
    for name, kind in [("a.png", "PNG"), ("b.JPG", "JPEG"), ("c.jpeg", "JPEG"), ("d.webp", "WEBP")]:
        write_picture(NOISE, tmp_path / name)
        with Image.open(tmp_path / name) as image:
            assert (image.format, image.size, image.mode) == (kind, NOISE.size, "RGB")
            if kind != "JPEG":
                assert (np.asarray(image) == np.asarray(NOISE)).all()


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_colours_under_transparent_pixels_stay(tmp_path, name) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 4), np.uint8))
    image.putalpha(0)
    write_picture(image, tmp_path / name)
    with Image.open(tmp_path / name) as read:
        assert (np.asarray(read) == np.asarray(image)).all()


@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
def test_parameters_are_the_exif_user_comment(tmp_path, name) -> None:
    write_picture(NOISE, tmp_path / name, parameters="a ☕\nSteps: 1")
    with Image.open(tmp_path / name) as image:
        comment = image.getexif().get_ifd(0x8769)[0x9286]
    assert comment.startswith(b"UNICODE\0")
    assert comment[8:].decode("utf-16-be") == "a ☕\nSteps: 1"


def test_parameters_join_the_exif_that_is_there(tmp_path) -> None:
    image = NOISE.copy()
    exif = Image.Exif()
    exif[0x0112] = 3
    exif.get_ifd(0x8769)[0x9003] = "2001:01:01 00:00:00"
    image.info["exif"] = exif.tobytes()
    write_picture(image, tmp_path / "a.jpg", parameters="a cat")
    with Image.open(tmp_path / "a.jpg") as read:
        assert read.getexif()[0x0112] == 3
        assert read.getexif().get_ifd(0x8769)[0x9003] == "2001:01:01 00:00:00"
        assert b"a\0 \0c" in read.getexif().get_ifd(0x8769)[0x9286]


def test_parameters_too_long_for_a_jpeg_are_left_out(tmp_path) -> None:
    write_picture(NOISE, tmp_path / "a.jpg", parameters="a cat " * 10_000)
    with Image.open(tmp_path / "a.jpg") as image:
        assert not image.getexif()


def test_a_sources_form_is_written(tmp_path) -> None:
    file = io.BytesIO()
    Image.new("P", (4, 4)).save(file, "PNG", icc_profile=b"profile", transparency=0)
    source = Source.load(ImageRef(data=file.getvalue()))
    write_picture(source.pasted(source.rgb, np.zeros((4, 4), np.float32)), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "P"
        assert image.info["icc_profile"] == b"profile"
        assert image.info["transparency"] == 0


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("a.tiff", "has no supported extension"),
        ("a", "has no supported extension"),
        ("there.png", "exists; choose another name, or allow it with overwrite=True"),
        ("folder.png", "is a folder"),
        ("nowhere/a.png", "There is no folder"),
        ("there.png/a.png", "There is no folder"),
        ("x" * 300 + ".png", "cannot be written"),
    ],
)
def test_outputs_that_cannot_be(tmp_path, name, wrong) -> None:
    (tmp_path / "there.png").write_bytes(b"mine")
    (tmp_path / "folder.png").mkdir()
    for ask in (lambda path: check_output(path), lambda path: write_picture(NOISE, path)):
        with pytest.raises(OutputError) as caught:
            ask(tmp_path / name)
        assert wrong in str(caught.value)
        assert str(caught.value).endswith(".")
    assert (tmp_path / "there.png").read_bytes() == b"mine"
    assert sorted(os.listdir(tmp_path)) == ["folder.png", "there.png"]


@pytest.mark.parametrize(("mode", "name"), [("RGBA", "a.jpg"), ("P", "a.jpg"), ("I;16", "a.jpg"), ("L", "a.webp")])
def test_formats_that_would_lose_the_mode(tmp_path, mode, name) -> None:
    image = Image.new(mode, (4, 4))
    with pytest.raises(OutputError, match=rf"cannot store an image of mode {mode} .*\.png\."):
        check_output(tmp_path / name, like=image)
    check_output(tmp_path / "a.png", like=image)


def test_transparent_colours_are_not_lost(tmp_path) -> None:
    image = Image.new("RGB", (4, 4))
    image.info["transparency"] = (0, 0, 0)
    with pytest.raises(OutputError, match="with transparent colours"):
        write_picture(image, tmp_path / "a.webp")


def test_overwriting_is_allowed_on_request(tmp_path) -> None:
    (tmp_path / "a.png").write_bytes(b"old")
    write_picture(NOISE, tmp_path / "a.png", overwrite=True)
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == NOISE.size


def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch) -> None:
    (tmp_path / "a.png").write_bytes(b"old")

    def fails_half_way(self, file, *_, **__) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fails_half_way)
    with pytest.raises(OutputError, match="No space left on device"):
        write_picture(NOISE, tmp_path / "a.png", overwrite=True)
    assert (tmp_path / "a.png").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="everything is writable for root")
def test_a_folder_that_is_not_writable(tmp_path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="is not writable"):
        check_output(tmp_path / "a.png")


@pytest.mark.parametrize("chain", [1, 2])
@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("dangling", [False, True])
def test_of_a_link_the_target_is_written(tmp_path, chain, relative, dangling) -> None:
    (tmp_path / "far").mkdir()
    target = tmp_path / "far" / "real.png"
    if not dangling:
        target.write_bytes(b"old")
    link = target
    for number in range(chain):
        new = tmp_path / f"link{number}.png"
        new.symlink_to(os.path.relpath(link, tmp_path) if relative else link)
        link = new
    if not dangling:
        for ask in (check_output, lambda path: write_picture(NOISE, path)):
            with pytest.raises(OutputError, match="exists; choose another name"):
                ask(link)
        assert target.read_bytes() == b"old"
    check_output(link, overwrite=not dangling)
    write_picture(NOISE, link, overwrite=not dangling)
    assert link.is_symlink()
    assert not target.is_symlink()
    with Image.open(target) as image:
        assert (np.asarray(image) == np.asarray(NOISE)).all()
    assert os.listdir(target.parent) == ["real.png"]
    assert sorted(os.listdir(tmp_path)) == ["far", *(f"link{number}.png" for number in range(chain))]


def test_a_failure_leaves_what_a_link_points_to(tmp_path, monkeypatch) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "real.png").write_bytes(b"old")
    (tmp_path / "link.png").symlink_to("far/real.png")

    def fails_half_way(self, file, *_, **__) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fails_half_way)
    with pytest.raises(OutputError, match="No space left on device"):
        write_picture(NOISE, tmp_path / "link.png", overwrite=True)
    assert (tmp_path / "far" / "real.png").read_bytes() == b"old"
    assert os.listdir(tmp_path / "far") == ["real.png"]


def test_links_that_lead_nowhere(tmp_path) -> None:
    (tmp_path / "a.png").symlink_to("b.png")
    (tmp_path / "b.png").symlink_to("a.png")
    (tmp_path / "c.png").symlink_to("nowhere/c.png")
    (tmp_path / "folder").mkdir()
    (tmp_path / "d.png").symlink_to("folder")
    for name, wrong in [("a.png", "leads back to itself"), ("c.png", "There is no folder"), ("d.png", "is a folder")]:
        for ask in (check_output, lambda path: write_picture(NOISE, path)):
            with pytest.raises(OutputError, match=wrong):
                ask(tmp_path / name)
        assert (tmp_path / name).is_symlink()
