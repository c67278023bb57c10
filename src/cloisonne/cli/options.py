"""Groups of options that several commands take: a dataclass whose fields are options, and how a command takes it."""

import functools
import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer

from cloisonne.errors import SceneError

SceneFile = Annotated[
    str | None, typer.Argument(metavar="SCENE", help="JSON file, PNG that carries a scene, or - for standard input.")
]
Caption = Annotated[str | None, typer.Option(help="What the whole picture shows (in place of a scene file).")]
Regions = Annotated[list[str] | None, typer.Option("--region", metavar="BOX:PHRASE", help='"x0,y0,x1,y1:phrase"')]
Overwrite = Annotated[bool, typer.Option(help="Replace outputs that exist.")]
Cache = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Where learning is kept: gone on with, or used again.")
]
MaskChannel = Annotated[
    str, typer.Option(help="What of the mask is read: auto, luminance, alpha, or transparency (1 - alpha).")
]
MAX_IMAGES = 10_000
NumImages = Annotated[int, typer.Option(min=1, max=MAX_IMAGES, help="How many pictures.")]


def also(name: str) -> tuple[str, str]:
    """An option under a name of diffusers, with dashes or underscores."""
    return f"--{name.replace('_', '-')}", f"--{name}"


PRECISIONS = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How a model is loaded."""

    model: Annotated[
        str | None, typer.Option(help='"builtin", a diffusers folder, a .safetensors file or a hub id ("owner/name").')
    ] = None
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:0 or mps.")] = "cpu"
    dtype: Annotated[
        str | None, typer.Option(help="float32, float16 or bfloat16; float32 on a CPU, else float16, if left out.")
    ] = None
    lora: Annotated[
        list[str] | None, typer.Option(metavar="FILE[:SCALE]", help="A LoRA; may be given several times.")
    ] = None
    regional_lora: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="A LoRA for the regions that name it, such as ink=file; several times."),
    ] = None
    embedding: Annotated[
        list[Path] | None, typer.Option(help="A textual inversion's file; may be given several times.")
    ] = None
    exemplar_model: Annotated[
        Path | None, typer.Option(help="What draws exemplars: Paint by Example's folder, or an IP-Adapter's file.")
    ] = None
    image_encoder: Annotated[
        Path | None, typer.Option(help="Folder of an IP-Adapter's image encoder, where it is not beside the file.")
    ] = None
    adapter: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND=PATH", help="A T2I-Adapter or ControlNet, such as canny=folder; several times."),
    ] = None
    fuser: Annotated[
        Path | None, typer.Option(help="A CoAdapter's fuser, for T2I-Adapters that were trained with it.")
    ] = None
    segmenter: Annotated[Path | None, typer.Option(help="Folder of CLIPSeg, which finds words in pictures.")] = None
    tokenizer: Annotated[Path | None, typer.Option(help="Folder of the tokenizer, for a single file.")] = None
    prediction: Annotated[
        str | None, typer.Option(help="epsilon or v_prediction, for a single file that does not say.")
    ] = None
    variant: Annotated[
        str | None, typer.Option(help="Of a folder's weights, such as fp16; the plain ones, if left out.")
    ] = None
    offload: Annotated[
        bool, typer.Option("--offload", help="Keep networks in the CPU's memory but while they are asked.")
    ] = False
    vae_tiling: Annotated[bool, typer.Option("--vae-tiling", help="Decode large pictures in tiles.")] = False

    def load(self, name: str) -> Any:
        """The model that a scene names, with these options. What can be refused without torch is, before its import."""
        loras = [_scaled(text) for text in self.lora or []]
        regional = dict(_named(text, "--regional-lora", "ink=file") for text in self.regional_lora or [])
        adapters = dict(_named(text, "--adapter", "canny=folder") for text in self.adapter or [])
        self._check(name, [*(file for file, _ in loras), *regional.values()], adapters)
        from cloisonne.models.load import load

        return load(
            name,
            device=self.device,
            dtype=self.precision(),
            lora=loras,
            regional_lora=regional,
            embeddings=self.embedding or [],
            exemplar=self.exemplar_model,
            image_encoder=self.image_encoder,
            adapters=adapters,
            fuser=self.fuser,
            segmenter=self.segmenter,
            tokenizer=self.tokenizer,
            prediction=self.predicts(),
            variant=self.variant,
            offload=self.offload,
            vae_tiling=self.vae_tiling,
        )

    def _check(self, name: str, loras: list[str], adapters: dict[str, str]) -> None:
        from cloisonne.models.checkpoints.load_options import check_options
        from cloisonne.models.checkpoints.sources import check_kinds, check_path, check_source

        self.check_words()
        check_source(name)
        check_kinds(adapters)
        paths: dict[str, Iterable[Any]] = {
            "LoRA": loras,
            "embedding": self.embedding or [],
            "model of exemplars": [self.exemplar_model],
            "image encoder": [self.image_encoder],
            "adapter": adapters.values(),
            "fuser": [self.fuser],
            "segmenter": [self.segmenter],
            "tokenizer": [self.tokenizer],
        }
        for what, given in paths.items():
            for path in given:
                if path is not None:
                    check_path(path, what)
        check_options(
            name, vars(self) | {"exemplar": self.exemplar_model, "adapters": adapters, "embeddings": self.embedding}
        )

    def check_words(self) -> None:
        """SceneError where the dtype or the prediction is none that there is."""
        if self.dtype not in (None, *PRECISIONS):
            raise SceneError(f'--dtype is "{self.dtype}"; choose one of {", ".join(PRECISIONS)}.')
        self.predicts()

    def precision(self) -> Any:
        """The dtype that was asked for; None where none was."""
        import torch

        self.check_words()
        return None if self.dtype is None else getattr(torch, self.dtype)

    def predicts(self) -> Any:
        """The prediction that was asked for; None where none was."""
        if self.prediction not in (None, "epsilon", "v_prediction"):
            raise SceneError(f'--prediction is "{self.prediction}"; choose "epsilon" or "v_prediction".')
        return self.prediction


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How a scene is drawn: what overrides its own values."""

    seed: Annotated[
        str | None,
        typer.Option(
            metavar="SEED[-LAST]",
            help="Seed of the first picture; picture i has seed + i. A range, such as 1-8, draws a picture of each.",
        ),
    ] = None
    width: Annotated[int | None, typer.Option(help="Of the canvas in pixels, a multiple of 8.")] = None
    height: Annotated[int | None, typer.Option(help="Of the canvas in pixels, a multiple of 8.")] = None
    negative: Annotated[str | None, typer.Option(help="What shall not be in the picture; also --negative-prompt.")] = (
        None
    )
    negative_prompt: Annotated[str | None, typer.Option(*also("negative_prompt"), hidden=True)] = None
    steps: Annotated[int | None, typer.Option(help="Denoising steps; also --num-inference-steps.")] = None
    num_inference_steps: Annotated[int | None, typer.Option(*also("num_inference_steps"), hidden=True)] = None
    guidance: Annotated[
        float | None, typer.Option(help="Scale of classifier-free guidance; also --guidance-scale.")
    ] = None
    guidance_scale: Annotated[float | None, typer.Option(*also("guidance_scale"), hidden=True)] = None
    sampler: Annotated[str | None, typer.Option(help="ddim, euler, euler-ancestral, heun, dpmpp-2m or pndm.")] = None
    method: Annotated[str | None, typer.Option(help="reco, attention, multidiffusion, words or caption.")] = None

    def given(self, *, several: bool = False, **more: Any) -> dict[str, Any]:
        """The values that were given, and further ones. several: a range of seeds is allowed, and its first is given.

        Raises SceneError for a seed that is none.
        """
        seeds = self.seeds()
        if len(seeds) > 1 and not several:
            raise SceneError(f'--seed is "{self.seed}", but this command takes a single seed; give one.')
        told = vars(self) | {"seed": seeds[0] if seeds else None} | more
        return {name: value for name, value in told.items() if value is not None}

    def seeds(self) -> range:
        """The seeds of "7" or "1-8"; empty where none was given. Raises SceneError for any other text."""
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
        """How many pictures to draw: as many as seeds were given, or ``num_images``. Raises SceneError for both."""
        seeds = len(self.seeds())
        if seeds > 1 and num_images not in (1, seeds):
            raise SceneError(
                f"--seed {self.seed} is {seeds} pictures, but --num-images is {num_images}; leave one of them out."
            )
        return max(seeds, num_images)


@dataclass(frozen=True, kw_only=True)
class Changing:
    """What is changed of a scene before it is drawn."""

    change: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=VALUE", help='hat="a green hat", hat.weight=0, caption=...; several times.'),
    ] = None
    keep_outside: Annotated[
        bool, typer.Option("--keep-outside", help="Outside of changed regions, keep the PNG's pixels.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class Writing:
    """How pictures are written."""

    num_images: NumImages = 1
    overlay: Annotated[bool, typer.Option(help="Also write each picture with its regions drawn.")] = False
    preview: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Every N-th step, write what the picture has come to.")
    ] = None
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON report on standard output, and nothing else there.")
    ] = False
    overwrite: Overwrite = False
    no_embed: Annotated[
        bool, typer.Option("--no-embed", help="Name given pictures by path and hash, do not embed them.")
    ] = False


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters of a dataclass's type are spread into that dataclass's fields, as options."""
    hints = get_type_hints(command, include_extras=True)
    parameters = inspect.signature(command).parameters
    groups = {name: hints[name] for name in parameters if is_dataclass(hints[name])}
    spread: list[inspect.Parameter] = []
    for name, parameter in parameters.items():
        if name not in groups:
            spread.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        types = get_type_hints(groups[name], include_extras=True)
        spread += [
            inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=types[f.name])
            for f in fields(groups[name])
        ]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        packed = {name: kind(**{f.name: given.pop(f.name) for f in fields(kind)}) for name, kind in groups.items()}
        command(**given, **packed)

    run.__signature__ = inspect.Signature(spread)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in spread}
    del run.__wrapped__  # type: ignore[attr-defined]
    return run


def masked(mask: Path, channel: str) -> dict[str, Any]:
    """The fields of a region for ``--mask`` and ``--mask-channel``."""
    from cloisonne.scene.shapes.mask_reading import Channel

    channels = get_args(Channel)
    if channel not in channels:
        raise SceneError(f'--mask-channel is "{channel}"; choose one of {", ".join(channels)}.')
    return {"mask": str(mask), "mask_channel": channel}


def _named(text: str, option: str, example: str) -> tuple[str, str]:
    """ "canny=folder" as (canny, folder)."""
    name, equals, path = text.partition("=")
    if not name or not equals or not path:
        what = "the kind of control" if option == "--adapter" else "a name for regions to call it by"
        raise SceneError(f'{option} is "{text}"; give {what} and a path, as in {example}.')
    return name, path


def _scaled(text: str) -> tuple[str, float]:
    """ "file:0.8" as (file, 0.8); a name may hold colons of its own."""
    file, colon, scale = text.rpartition(":")
    try:
        return (file, float(scale)) if colon else (text, 1.0)
    except ValueError:
        return text, 1.0
