"""Option groups shared by several commands: dataclasses whose fields are options (``grouped.py``)."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from cloisonne.errors import SceneError
from cloisonne.models.deferred_imports import importing

SceneFile = Annotated[
    str | None,
    typer.Argument(metavar="SCENE", help="Scene to read: a JSON file, a PNG with an embedded scene, or - for stdin."),
]
Caption = Annotated[str | None, typer.Option(help="Prompt for the whole image; replaces the scene file.")]
Regions = Annotated[
    list[str] | None,
    typer.Option(
        "--region", metavar="BOX:PHRASE", help='Add "x0,y0,x1,y1:phrase", in fractions of the canvas. Repeatable.'
    ),
]
Overwrite = Annotated[bool, typer.Option(help="Replace existing outputs.")]
Cache = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Store learned concepts here; resume or reuse those there.")
]
MaskChannel = Annotated[
    str, typer.Option(help="Mask channel to read: auto, luminance, alpha or transparency (1 - alpha).")
]
MAX_IMAGES = 10_000
NumImages = Annotated[int, typer.Option(min=1, max=MAX_IMAGES, help="Number of images to generate.")]


def also(name: str) -> tuple[str, str]:
    """The option names of a diffusers argument, with dashes and with underscores."""
    return f"--{name.replace('_', '-')}", f"--{name}"


@dataclass(frozen=True, kw_only=True)
class Loading:
    """Options that select and load a model."""

    model: Annotated[
        str | None,
        typer.Option(
            help='Model to load: "builtin", a diffusers folder, a .safetensors file, a hub id ("owner/name") or a '
            "model spec (.json), to which the options below are added. Default: the scene's, else builtin."
        ),
    ] = None
    device: Annotated[str | None, typer.Option(help="Device to run on: cpu, cuda, cuda:0 or mps. Default: cpu.")] = None
    dtype: Annotated[
        str | None,
        typer.Option(help="Precision: float32, float16 or bfloat16. Default: float32 on a CPU, else float16."),
    ] = None
    lora: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE[:SCALE]", help="Apply a LoRA to the whole image; SCALE defaults to 1. Repeatable."),
    ] = None
    regional_lora: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="Load a LoRA for the regions that name it, as in ink=file. Repeatable."),
    ] = None
    embedding: Annotated[list[Path] | None, typer.Option(help="Load a textual inversion file. Repeatable.")] = None
    exemplar_model: Annotated[
        Path | None, typer.Option(help="Model for exemplars: a Paint by Example folder or an IP-Adapter file.")
    ] = None
    image_encoder: Annotated[
        Path | None, typer.Option(help="Image encoder folder of the IP-Adapter, if not next to its file.")
    ] = None
    adapter: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND=PATH", help="Load a T2I-Adapter or ControlNet, as in canny=folder. Repeatable."),
    ] = None
    fuser: Annotated[Path | None, typer.Option(help="CoAdapter fuser, for the T2I-Adapters trained with it.")] = None
    segmenter: Annotated[Path | None, typer.Option(help="CLIPSeg folder, to segment an image by text.")] = None
    transformer: Annotated[
        Path | None,
        typer.Option(help="Diffusion transformer of a .safetensors or .gguf file, in place of the folder's own."),
    ] = None
    text_encoder: Annotated[
        list[Path] | None,
        typer.Option(help="Text encoder file, for a model that is a file of a diffusion transformer. Repeatable."),
    ] = None
    vae: Annotated[
        Path | None, typer.Option(help="Autoencoder file, for a model that is a file of a diffusion transformer.")
    ] = None
    tokenizer: Annotated[Path | None, typer.Option(help="Tokenizer folder, for a single-file model.")] = None
    prediction: Annotated[
        str | None,
        typer.Option(help="Prediction type of a single-file model that does not record it: epsilon or v_prediction."),
    ] = None
    variant: Annotated[
        str | None, typer.Option(help="Weight variant of a diffusers folder, such as fp16. Default: none.")
    ] = None
    offload: Annotated[
        bool, typer.Option("--offload", help="Keep each network in CPU memory except while it runs.")
    ] = False
    group_offload: Annotated[
        bool,
        typer.Option(
            "--group-offload", help="The same with each block of a diffusion transformer: less memory, slower."
        ),
    ] = False
    compile: Annotated[
        str | None,
        typer.Option(
            metavar="MODE",
            help="Compile the network's blocks: default, or reduce-overhead (CUDA graphs). The first image is slow.",
        ),
    ] = None
    vae_tiling: Annotated[bool, typer.Option("--vae-tiling", help="Decode large images in tiles.")] = False

    def load(self, name: str) -> Any:
        """Load the model ``name`` with these options. Checks what it can before torch is imported."""
        spec = self.spec(name)
        from cloisonne.models.checkpoints.load_options import check_options, check_paths

        check_paths(spec.source, spec.given())
        check_options(spec.source, spec.given())
        with importing():
            from cloisonne.models.load import load

        return load(spec)

    def spec(self, name: str) -> Any:
        """The ``ModelSpec`` of the model ``name`` with these options. Raises SceneError or CapabilityError."""
        from cloisonne.models.model_spec import ModelSpec

        options = {
            "lora": [_scaled(text) for text in self.lora or []],
            "regional_lora": dict(_named(text, "--regional-lora", "ink=file") for text in self.regional_lora or []),
            "adapters": dict(_named(text, "--adapter", "canny=folder") for text in self.adapter or []),
            "embeddings": self.embedding,
            "text_encoders": self.text_encoder,
            "offload": "group" if self.group_offload else self.offload,
            "exemplar": self.exemplar_model,
        }
        same = ("device", "dtype", "compile", "image_encoder", "fuser", "segmenter", "tokenizer", "prediction")
        same += ("variant", "transformer", "vae", "vae_tiling")
        options |= {option: getattr(self, option) for option in same}
        given: Any = {option: value for option, value in options.items() if value not in (None, False, [], {})}
        return ModelSpec.of(name, **given)

    def check_choices(self) -> None:
        """Raise CapabilityError for an unknown dtype or prediction type."""
        from cloisonne.models.options import checked

        checked("dtype", self.dtype)
        checked("compile", self.compile)
        checked("prediction", self.prediction)

    def precision(self) -> Any:
        """The requested torch dtype, or None."""
        self.check_choices()
        import torch

        return None if self.dtype is None else getattr(torch, self.dtype)

    def prediction_type(self) -> Any:
        """The requested prediction type, or None."""
        self.check_choices()
        return self.prediction


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Generation options; each overrides the scene's own value."""

    seed: Annotated[
        str | None,
        typer.Option(
            metavar="SEED[-LAST]",
            help="Seed of the first image; image i uses SEED + i. A range such as 1-8 generates one image per seed. "
            "Default: the scene's, else random.",
        ),
    ] = None
    width: Annotated[int | None, typer.Option(help="Canvas width in pixels, a multiple of 8.")] = None
    height: Annotated[int | None, typer.Option(help="Canvas height in pixels, a multiple of 8.")] = None
    negative: Annotated[str | None, typer.Option(help="Negative prompt; also --negative-prompt.")] = None
    negative_prompt: Annotated[str | None, typer.Option(*also("negative_prompt"), hidden=True)] = None
    steps: Annotated[int | None, typer.Option(help="Number of denoising steps; also --num-inference-steps.")] = None
    num_inference_steps: Annotated[int | None, typer.Option(*also("num_inference_steps"), hidden=True)] = None
    guidance: Annotated[float | None, typer.Option(help="Classifier-free guidance scale; also --guidance-scale.")] = (
        None
    )
    guidance_scale: Annotated[float | None, typer.Option(*also("guidance_scale"), hidden=True)] = None
    sampler: Annotated[
        str | None, typer.Option(help="Sampler: ddim, euler, euler-ancestral, heun, dpmpp-2m, pndm, lcm or tcd.")
    ] = None
    method: Annotated[
        str | None,
        typer.Option(
            help="Region method: reco, bounded, bounded-words, isolated, attention, multidiffusion, words or caption."
        ),
    ] = None
    speed: Annotated[
        str | None,
        typer.Option(help="exact, or fast: reuse deep features between neighbouring steps. Default: exact."),
    ] = None
    hires: Annotated[
        str | None,
        typer.Option(
            metavar="SCALE[:STRENGTH]",
            help="Enlarge the image SCALE times and repaint it with the same regions; STRENGTH defaults to 0.5.",
        ),
    ] = None
    windows: Annotated[
        float | None,
        typer.Option(
            metavar="OVERLAP", help="Predict a canvas larger than the model's size by windows that overlap, as in 0.5."
        ),
    ] = None
    region_boost: Annotated[
        str | None,
        typer.Option(
            help="How many times a phrase's words count in its region, 1 to 1000000, or auto, by the model's "
            "attention; methods bounded and bounded-words. Default: 1000."
        ),
    ] = None
    layout_guidance: Annotated[
        float | None,
        typer.Option(
            help="Move the latents towards attention of phrases in their regions before each step of the first half, "
            "by this fraction of their length, such as 0.01; methods bounded and bounded-words. Default: 0."
        ),
    ] = None
    isolate: Annotated[
        float | None,
        typer.Option(
            help="Fraction of the steps, from the first one, in which regions of the image attend only to themselves; "
            "transformers. Default: 0.15."
        ),
    ] = None
    blocks: Annotated[
        int | None,
        typer.Option(help="Regions hold in every block of a transformer (1) or in every second one (2). Default: 1."),
    ] = None

    def given(self, *, several: bool = False, **more: Any) -> dict[str, Any]:
        """The options that are set, and ``more``, as scene fields.

        With ``several`` a range of seeds is allowed and stands for its first seed. Raises SceneError for an invalid
        seed.
        """
        seeds = self.seeds()
        if len(seeds) > 1 and not several:
            raise SceneError(f'--seed is "{self.seed}", but this command takes a single seed; give one.')
        given = {"seed": seeds[0] if seeds else None, "hires": _hires(self.hires), "region_boost": self._boost()}
        options = vars(self) | given | more
        return {name: value for name, value in options.items() if value is not None}

    def _boost(self) -> float | str | None:
        """--region-boost as a number where it is one."""
        try:
            return None if self.region_boost is None else float(self.region_boost)
        except ValueError:
            return self.region_boost

    def seeds(self) -> range:
        """The seeds of "7" or "1-8"; empty without --seed. Raises SceneError for any other text."""
        if self.seed is None:
            return range(0)
        found = re.fullmatch(r"(\d{1,16})(?:-(\d{1,16}))?", self.seed.strip())
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if not first <= last < first + MAX_IMAGES:
            raise SceneError(
                f'--seed is "{self.seed}"; give a whole number, or a range of at most {MAX_IMAGES} such as 1-8.'
            )
        return range(first, last + 1)

    def count(self, num_images: int) -> int:
        """Number of images: the number of seeds, or ``num_images``. Raises SceneError if both are given and differ."""
        seeds = len(self.seeds())
        if seeds > 1 and num_images not in (1, seeds):
            raise SceneError(
                f"--seed {self.seed} is {seeds} images, but --num-images is {num_images}; leave one of them out."
            )
        return max(seeds, num_images)


@dataclass(frozen=True, kw_only=True)
class Changing:
    """Options that change a scene before it is generated."""

    change: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=VALUE",
            help='Change a field, as in hat="a green hat", hat.weight=0 or caption=... Repeatable.',
        ),
    ] = None
    keep_outside: Annotated[
        bool, typer.Option("--keep-outside", help="Keep the pixels of the input PNG outside the changed regions.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class Writing:
    """Options for writing images."""

    num_images: NumImages = 1
    overlay: Annotated[bool, typer.Option(help="Also write each image with its regions drawn on it.")] = False
    preview: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Write a preview of the image every N steps.")
    ] = None
    show: Annotated[bool, typer.Option("--show", help="Open the written images with the system's viewer.")] = False
    as_json: Annotated[bool, typer.Option("--json", help="Print only a JSON report to stdout.")] = False
    overwrite: Overwrite = False
    no_embed: Annotated[
        bool, typer.Option("--no-embed", help="Record input images by path and hash; do not embed them in the PNG.")
    ] = False


def _hires(text: str | None) -> dict[str, float] | None:
    """Read "2" or "2:0.4". Raises SceneError."""
    if text is None:
        return None
    try:
        return {name: float(part) for name, part in zip(("scale", "strength"), text.split(":"), strict=False)}
    except ValueError as error:
        raise SceneError(f'--hires is "{text}"; give a scale, or a scale and a strength, as in 2:0.4.') from error


def _named(text: str, option: str, example: str) -> tuple[str, str]:
    """Split "canny=folder" into (canny, folder). Raises SceneError."""
    name, equals, path = text.partition("=")
    if not name or not equals or not path:
        what = "the kind of control" if option == "--adapter" else "a name for regions to refer to"
        raise SceneError(f'{option} is "{text}"; give {what} and a path, as in {example}.')
    return name, path


def _scaled(text: str) -> tuple[str, float]:
    """Split "file:0.8" into (file, 0.8). The file name may contain colons; the scale defaults to 1."""
    file, colon, scale = text.rpartition(":")
    try:
        return (file, float(scale)) if colon else (text, 1.0)
    except ValueError:
        return text, 1.0
