"""Tables of the tests that compare with diffusers: what of its pipelines, and what of its networks.

The last cell of a row has the tests, without ```.
"""

from collections.abc import Sequence

PIPELINES = (
    ("family", "from noise", "from an image", "with references or controls", "test"),
    (
        "Stable Diffusion 1.x, 2.x, XL",
        "every sampler, every spacing of timesteps; a latent consistency model",
        "inpainting",
        "T2I-Adapter, CoAdapter, ControlNet, IP-Adapter",
        "oracles/test_pipelines.py, oracles/test_adapters.py, oracles/test_coadapter.py, oracles/test_controlnet.py, "
        "oracles/test_ip_adapter.py",
    ),
    ("Paint by Example", "", "inpainting", "", "oracles/test_paint_by_example.py"),
    (
        "FLUX.1 dev, schnell",
        "guidance embedded, classifier-free, none; dynamic shift at two sizes; T5's padding",
        "image to image, inpainting",
        "ControlNets: plain, union, of pixels; several, in part of the steps",
        "oracles/test_flux.py, oracles/test_block_controlnet.py",
    ),
    ("FLUX.1 Fill", "", "the masked image and its mask as channels", "", "oracles/test_flux.py"),
    ("FLUX.1 Kontext", "", "", "reference images of three shapes", "oracles/test_flux.py"),
    (
        "Stable Diffusion 3, 3.5 Medium, 3.5 Large",
        "guidance, none; two sizes; texts longer than CLIP reads, T5's padding, no T5",
        "image to image, inpainting",
        "ControlNets of InstantX and Stability AI; several, in part of the steps",
        "oracles/test_sd3.py, oracles/test_block_controlnet.py",
    ),
    (
        "FLUX.2 klein, distilled and base",
        "guidance, none, a negative; dynamic shift at two sizes",
        "inpainting of the whole image",
        "reference images of three sizes",
        "oracles/test_flux2.py",
    ),
    (
        "Z-Image, Turbo",
        "guidance, none, a negative; dynamic shift at two sizes, padded and not",
        "image to image, inpainting",
        "ControlNets of three kinds",
        "oracles/test_zimage.py, oracles/test_block_controlnet.py",
    ),
)
NETWORKS = (
    ("", "families", "largest difference allowed", "test"),
    (
        "regions of `isolated` and `bounded`, soft, weighted, overlapping, in early steps, in every second block: a "
        "dense mask in one softmax",
        "FLUX.1, Stable Diffusion 3.5, FLUX.2 klein, Z-Image",
        "1e-5",
        "models/mmdit/test_region_masks.py",
    ),
    (
        "a reused background: the inputs of attention are the source's outside of the region",
        "the same",
        "1e-5",
        "models/mmdit/test_region_masks.py",
    ),
    ("LoRAs by region", "the same", "1e-5, relative 1e-4", "models/mmdit/test_region_lora.py"),
    (
        "references by region; inpainting by a soft mask",
        "FLUX.2 klein, Kontext",
        "1e-5; 1e-4",
        "models/mmdit/test_references.py",
    ),
    (
        "controls by soft masks",
        "FLUX.1, Stable Diffusion 3, Z-Image",
        "5e-5",
        "oracles/test_block_controlnet.py",
    ),
    (
        "FlowEdit's published loop",
        "FLUX.1, Stable Diffusion 3",
        "1e-4",
        "pipelines/editing/test_transformers.py",
    ),
)


def pipelines() -> str:
    """What of diffusers' pipelines is compared, by family."""
    return _markdown(PIPELINES)


def networks() -> str:
    """What no pipeline has, compared with explicit forward passes of diffusers' networks."""
    return _markdown(NETWORKS)


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row is its head."""
    head, *others = rows
    tests = (", ".join(f"`tests/{test}`" for test in line[-1].split(", ")) for line in others)
    lines = [head, ["---"] * len(head), *([*line[:-1], test] for line, test in zip(others, tests, strict=True))]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
