"""Each node: shapes and polarity of IMAGE and MASK, progress, interrupt, refusals, and equality with the library."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comfy_protocol import Interrupted, Nodes, load_image
from PIL import Image

import cloisonne as cl
from cloisonne.errors import CloisonneError
from cloisonne.models.builtin import BUILTIN

pytestmark = pytest.mark.skipif(not (BUILTIN / "model_index.json").is_file(), reason="the built-in family is missing")

RUN: dict[str, Any] = {"seed": 5, "steps": 1, "guidance": -1.0, "sampler": "the model's"}
TWO = {"steps": 2}


@pytest.fixture(scope="module")
def model() -> cl.Model:
    return cl.load("builtin")


def noise(count: int = 1, height: int = 128, width: int = 128, channels: int = 3) -> torch.Tensor:
    """An IMAGE of 8-bit values."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, height, width, channels), generator=generator).float() / 255


def corner(height: int = 128, width: int = 128) -> torch.Tensor:
    """A MASK of the top left quarter."""
    mask = torch.zeros(1, height, width)
    mask[:, : height // 2, : width // 2] = 1
    return mask


def pixels(result: cl.Result) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.asarray(image, np.float32) / 255) for image in result.images])


def test_ids_and_names_are_its_own(nodes: Nodes) -> None:
    ours = {key: node.define_schema() for key, node in nodes.items() if key.startswith("Cloisonne")}
    assert len(ours) == 16
    assert all(schema.display_name.endswith("(cloisonne)") for schema in ours.values())
    assert all(schema.description.endswith(".") and schema.category == "cloisonne" for schema in ours.values())


@pytest.mark.parametrize(("count", "height", "width", "channels"), [(1, 64, 96, 3), (3, 8, 8, 4)])
def test_images_come_back(nodes: Nodes, count: int, height: int, width: int, channels: int) -> None:
    image = noise(count, height, width, channels)
    tensors = nodes.module("tensors")
    back = tensors.to_image(tensors.to_pictures(image))
    assert back.dtype == torch.float32
    torch.testing.assert_close(back, image[..., :3], atol=0, rtol=0)


def test_masks_come_back(nodes: Nodes) -> None:
    """A soft MASK that is not square is the region's mask to 16 bits, unmirrored and not inverted."""
    mask = torch.rand(1, 64, 128, generator=torch.Generator().manual_seed(0)) * corner(64, 128)
    (scene,) = nodes.call("CloisonneRegionFromMask", scene=cl.Scene(caption="a"), mask=mask, phrase="a cat")
    np.testing.assert_allclose(scene.regions[0].soft_mask(64, 128), mask[0].numpy(), atol=1 / 65535)


def test_what_is_transparent_is_inpainted(nodes: Nodes, model: cl.Model, tmp_path: Path) -> None:
    """The MASK of a loaded image is 1 where it is transparent; only there do pixels change."""
    own = (noise()[0].numpy() * 255).round().astype(np.uint8)
    alpha = (255 - corner()[0].numpy() * 255).astype(np.uint8)
    Image.fromarray(np.dstack([own, alpha])).save(tmp_path / "hole.png")
    image, mask = load_image(tmp_path / "hole.png")
    (found, warnings) = nodes.call("CloisonneInpaint", model=model, image=image, mask=mask, phrase="a cat", **RUN)
    changed = (found != image).any(-1)[0]
    assert found.shape == image.shape
    assert changed[:64, :64].float().mean() > 0.9
    assert not changed[64:].any()
    assert not changed[:, 64:].any()
    assert isinstance(warnings, str)


def test_inpainting_a_batch_is_inpainting_each(nodes: Nodes, model: cl.Model) -> None:
    """A mask for each image, or one for all; and what the library gives."""
    images, masks = noise(2), torch.cat([corner(), corner().flip(1)])
    (both, _) = nodes.call("CloisonneInpaint", model=model, image=images, mask=masks, phrase="a cat", **RUN)
    alone = [
        cl.inpaint(image, mask, model, phrase="a cat", seed=5, steps=1, progress=False)
        for image, mask in zip(images.numpy(), masks.numpy(), strict=True)
    ]
    torch.testing.assert_close(both, torch.cat([pixels(one) for one in alone]), atol=0, rtol=0)
    with pytest.raises(ValueError, match="2 images and 3 masks"):
        nodes.call("CloisonneInpaint", model=model, image=images, mask=torch.ones(3, 8, 8), phrase="a cat", **RUN)


def test_generate_is_the_librarys(nodes: Nodes, model: cl.Model) -> None:
    (scene,) = nodes.call(
        "CloisonneSceneFromBoxes", caption="on a beach", boxes="0.1,0.1,0.5,0.5: a cat\n", width=0, height=0
    )
    images, resolved, _ = nodes.call("CloisonneGenerate", model=model, scene=scene, batch_size=2, **RUN)
    expected = cl.generate(
        {"caption": "on a beach", "regions": [{"name": "region-0", "box": [0.1, 0.1, 0.5, 0.5], "phrase": "a cat"}]},
        model,
        seed=5,
        steps=1,
        num_images=2,
    )
    torch.testing.assert_close(images, pixels(expected), atol=0, rtol=0)
    assert cl.Scene.from_dict({**expected.scene.to_dict()}) == resolved
    (text,) = nodes.call("CloisonneSceneToJson", scene=resolved)
    assert '"a cat"' in text


def test_a_background_is_preserved(nodes: Nodes, model: cl.Model) -> None:
    image = noise()
    (scene,) = nodes.call("CloisonneRegionFromMask", scene=cl.Scene(caption=""), mask=corner(), phrase="a cat")
    found, _, _ = nodes.call("CloisonneGenerate", model=model, scene=scene, batch_size=1, background=image, **RUN)
    assert (found != image).any()
    torch.testing.assert_close(found[:, 64:], image[:, 64:], atol=0, rtol=0)


def test_control_maps_are_the_librarys(nodes: Nodes) -> None:
    from cloisonne.scene.control_maps import DRAWN

    for kind, draw in DRAWN.items():
        (found,) = nodes.call("CloisonneControlMap", image=noise(2), kind=kind)
        own = draw((noise(2)[1].numpy() * 255).round().astype(np.uint8))
        expected = own if own.ndim == 3 else np.repeat(own[..., None], 3, 2)
        assert found.shape == (2, 128, 128, 3)
        np.testing.assert_array_equal((found[1] * 255).round().to(torch.uint8).numpy(), expected)


def test_a_region_has_all_its_conditions(nodes: Nodes) -> None:
    (scene,) = nodes.call(
        "CloisonneScene", caption="a", width=64, height=128, method="reco", overlap="union", negative="b"
    )
    (scene,) = nodes.call(
        "CloisonneRegionFromBox",
        scene=scene,
        phrase="a cat",
        x=0.5,
        y=0.25,
        box_width=0.75,
        box_height=0.5,
        name="pet",
        negative="a dog",
        exemplar=noise(),
        control=noise(),
        control_kind="canny",
        weight=2.0,
        priority=3,
        start=0.25,
        stop=0.75,
        feather=0.125,
        lora="ink",
    )
    (region,) = scene.regions
    assert (scene.width, scene.height, scene.method, scene.overlap, scene.negative) == (64, 128, "reco", "union", "b")
    assert region.box == (0.5, 0.25, 1.0, 0.75)
    assert (region.name, region.phrase, region.negative) == ("pet", "a cat", "a dog")
    assert region.conditions.keys() == {"exemplar", "control", "lora"}
    assert region.control.kind == "canny"
    assert (region.weight, region.priority, region.start, region.stop, region.feather) == (2, 3, 0.25, 0.75, 0.125)


def test_regions_get_free_names(nodes: Nodes) -> None:
    scene = cl.Scene(caption="a", regions=[cl.Region(name="region-1", box=(0, 0, 1, 1), phrase="a cat")])
    for _ in range(2):
        (scene,) = nodes.call("CloisonneRegionFromMask", scene=scene, mask=corner(), phrase="a dog")
    assert [region.name for region in scene.regions] == ["region-1", "region-0", "region-2"]


def test_masks_and_lines_make_regions(nodes: Nodes) -> None:
    masks = torch.cat([corner(), 1 - corner()])
    (scene,) = nodes.call(
        "CloisonneSceneFromMasks", caption="a", masks=masks, phrases="a cat\n\n a dog \n", width=0, height=0
    )
    assert [region.phrase for region in scene.regions] == ["a cat", "a dog"]
    for region, mask in zip(scene.regions, masks, strict=True):
        np.testing.assert_allclose(region.soft_mask(128, 128), mask.numpy(), atol=1e-4)


EDITS = {
    ("", "a crown"): {"kind": "add", "phrase": "a crown"},
    ("a hat", ""): {"kind": "remove", "phrase": "a hat"},
    ("a hat", "a crown"): {"kind": "change", "from": "a hat", "to": "a crown"},
}


@pytest.mark.parametrize(("before", "after"), EDITS)
def test_edits_by_what_is_given(nodes: Nodes, before: str, after: str) -> None:
    (scene,) = nodes.call("CloisonneEditRegion", scene=cl.Scene(caption="a"), mask=corner(), before=before, after=after)
    assert scene.to_dict()["regions"][0]["edit"] == EDITS[before, after]


def test_edit_in_inference_mode_has_gradients(nodes: Nodes, model: cl.Model) -> None:
    """MRGD's losses differentiate the networks, which ComfyUI's inference mode forbids."""
    (scene,) = nodes.call(
        "CloisonneEditRegion", scene=cl.Scene(caption="a meadow"), mask=corner(), before="a red car", after="a blue car"
    )
    with torch.inference_mode():
        after, before, _ = nodes.call("CloisonneEdit", model=model, scene=scene, preset="mrgd", **RUN)
    expected = cl.edit(scene, model, preset="mrgd", seed=5, steps=1, progress=False)
    torch.testing.assert_close(after, pixels(expected), atol=0, rtol=0)
    torch.testing.assert_close(before[:, 64:], after[:, 64:], atol=0, rtol=0)


def test_translate_is_the_librarys(nodes: Nodes, model: cl.Model) -> None:
    image, reference = noise(), noise().flip(1)
    found, _ = nodes.call(
        "CloisonneTranslate",
        model=model,
        image=image,
        reference=reference,
        preset="fast",
        concept_strength=1.0,
        mask=corner(),
        **RUN,
    )
    expected = cl.translate(
        image[0].numpy(),
        reference[0].numpy(),
        model,
        mask=corner()[0].numpy(),
        mask_channel="luminance",
        preset="fast",
        seed=5,
        steps=1,
        progress=False,
    )
    torch.testing.assert_close(found, pixels(expected), atol=0, rtol=0)
    torch.testing.assert_close(found[:, 64:], image[:, 64:], atol=0, rtol=0)


def test_the_bar_moves_with_every_step(nodes: Nodes, model: cl.Model) -> None:
    nodes.call("CloisonneGenerate", model=model, scene=cl.Scene(caption="a cat"), batch_size=2, **RUN | TWO)
    assert [bar[:2] for bar in nodes.host.bars] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    kind, picture, size = nodes.host.bars[-1][2]
    assert (kind, picture.size, size) == ("JPEG", (128, 128), 512)
    nodes.host.bars.clear()
    nodes.call("CloisonneInpaint", model=model, image=noise(2), mask=corner(), phrase="a cat", **RUN | TWO)
    assert [bar[:2] for bar in nodes.host.bars] == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_an_interrupt_ends_the_run_and_leaves_the_model(nodes: Nodes, model: cl.Model) -> None:
    given: dict[str, Any] = {"model": model, "scene": cl.Scene(caption="a cat"), "batch_size": 1, **RUN, **TWO}
    before, _, _ = nodes.call("CloisonneGenerate", **given)
    nodes.host.bars.clear()
    nodes.host.interrupt_after = 1
    with pytest.raises(Interrupted):
        nodes.call("CloisonneGenerate", **given)
    assert len(nodes.host.bars) == 1
    nodes.host.interrupt_after = None
    again, _, _ = nodes.call("CloisonneGenerate", **given)
    torch.testing.assert_close(again, before, atol=0, rtol=0)


SCENE = cl.Scene(caption="a")
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "line": (
        "CloisonneSceneFromBoxes",
        {"caption": "a", "boxes": "0.1,0.2,0.3: a cat", "width": 0, "height": 0},
        'The line "0.1,0.2,0.3: a cat" is no box',
    ),
    "elements": ("CloisonneSceneFromElements", {"elements": "{", "width": 0, "height": 0}, "The elements are no JSON"),
    "counts": (
        "CloisonneSceneFromMasks",
        {"caption": "a", "masks": torch.ones(2, 8, 8), "phrases": "a cat", "width": 0, "height": 0},
        "2 masks and 1 lines of phrases",
    ),
    "empty mask": (
        "CloisonneRegionFromMask",
        {"scene": SCENE, "mask": torch.zeros(64, 64), "phrase": "a cat"},
        "The region's mask selects nothing",
    ),
    "masks": (
        "CloisonneRegionFromMask",
        {"scene": SCENE, "mask": torch.ones(2, 8, 8), "phrase": "a cat"},
        "batch of 2 masks",
    ),
    "exemplars": (
        "CloisonneRegionFromMask",
        {"scene": SCENE, "mask": torch.ones(8, 8), "phrase": "a cat", "exemplar": noise(2)},
        "The exemplar is a batch of 2 images",
    ),
    "kind": (
        "CloisonneRegionFromMask",
        {"scene": SCENE, "mask": torch.ones(8, 8), "phrase": "a cat", "control": noise()},
        "control has no kind",
    ),
    "map": (
        "CloisonneRegionFromMask",
        {"scene": SCENE, "mask": torch.ones(8, 8), "phrase": "a cat", "control_kind": "canny"},
        "control has no map",
    ),
    "edit": (
        "CloisonneEditRegion",
        {"scene": SCENE, "mask": torch.ones(8, 8), "before": " ", "after": ""},
        "neither before nor after",
    ),
    "no condition": (
        "CloisonneRegionFromMask",
        {"scene": SCENE, "mask": torch.ones(8, 8), "phrase": ""},
        'Region "region-0": The region has no phrase',
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_what_is_wrong(nodes: Nodes, case: str) -> None:
    node, inputs, message = REFUSED[case]
    with pytest.raises((ValueError, CloisonneError), match=message):
        nodes.call(node, **inputs)


def test_models_are_those_of_the_folders(nodes: Nodes, tmp_path: Path) -> None:
    """Folders of pipelines and safetensors are listed; no other path is read, whatever a graph names."""
    for file in ("diffusers/sd/model_index.json", "checkpoints/own/a.safetensors", "checkpoints/b.ckpt"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("{}")
    nodes.host.folders.update(diffusers=tmp_path / "diffusers", checkpoints=tmp_path / "checkpoints")
    slot = nodes["CloisonneLoadModel"].define_schema().inputs[0]
    assert slot.limits["options"] == ["builtin", "sd", "own/a.safetensors"]
    host = nodes.module("host")
    assert host.model_source("sd") == str(tmp_path / "diffusers/sd")
    assert host.model_source("own/a.safetensors") == str(tmp_path / "checkpoints/own/a.safetensors")
    for name in ("../diffusers/sd", "b.ckpt", str(tmp_path), "owner/name"):
        with pytest.raises(ValueError, match="choose one of the list"):
            host.model_source(name)


def test_add_ons_are_files_of_the_folders(nodes: Nodes, model: cl.Model, tmp_path: Path) -> None:
    """Only files of ComfyUI's folders are added, and what does not fit the model is the library's error."""
    from diffusers import T2IAdapter

    T2IAdapter(3, [64, 128, 192], 2, downscale_factor=16, adapter_type="full_adapter_xl").save_pretrained(tmp_path)
    nodes.host.folders["controlnet"] = tmp_path
    slots = {slot.id: slot for slot in nodes["CloisonneAddControl"].define_schema().inputs}
    (name,) = slots["adapter_name"].limits["options"]
    with pytest.raises(CloisonneError, match="adapter"):
        nodes.call("CloisonneAddControl", model=model, adapter_name=name, kind="depth")
    with pytest.raises(ValueError, match="choose one of the list"):
        nodes.call("CloisonneAddLora", model=model, lora_name="../a.safetensors", scale=1.0, region_name="")
