"""The commands under ``cloisonne train``. Heavy imports happen inside of them."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, replace
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from cloisonne.cli.terminal import to_stderr
from cloisonne.errors import TrainingError
from cloisonne.extras import check_extra
from cloisonne.train.control import settings as control
from cloisonne.train.engine import settings as engine
from cloisonne.train.engine.settings import LATEST
from cloisonne.train.exemplar import settings as exemplar
from cloisonne.train.reco import settings as reco

train = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Train networks.")

_ALIASES = {
    "base": ("--pretrained_model_name_or_path",),
    "data": ("--train_data_dir",),
    "output": ("-o", "--output_dir"),
    "adapter": ("--adapter_model_name_or_path",),
}
"""The names of these settings in diffusers' training scripts."""


@train.command("family")
def train_family(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the family and its training state.")],
    minutes: Annotated[float, typer.Option(help="Total training time in minutes.")],
    device: Annotated[str, typer.Option(help="Device to train on: auto, cpu or cuda.")] = "auto",
    slice_minutes: Annotated[
        float | None, typer.Option(help="Stop after this many minutes; run again to resume.")
    ] = None,
    begin: Annotated[
        str | None,
        typer.Option(help='Continue from "builtin" or a finished family: its base, exemplar network and controls.'),
    ] = None,
) -> None:
    """Train the built-in family from scratch. Resumes where the last call stopped."""
    check_extra("train", "Training a family", "peft", "tokenizers")
    from cloisonne.bench.member_sheets import write_sheet
    from cloisonne.models.builtin import BUILTIN
    from cloisonne.train.builtin.family import train_family as rebuilt

    def made(member: str, family: Path) -> None:
        write_sheet(member, family, out / "sheets")

    first = BUILTIN if begin == "builtin" else Path(begin) if begin else None
    finished = rebuilt(
        out, minutes, device=device, slice_minutes=slice_minutes, begin=first, report=to_stderr, made=made
    )
    typer.echo(
        f"{'Family written to' if finished else 'Not finished, run again to resume; so far in'} {out / 'family'}"
    )


@train.command("base")
def train_base(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the training state.")],
    begin: Annotated[
        str | None, typer.Option(help='Family to start from: "builtin" (default) or a finished family.')
    ] = None,
    device: Annotated[str, typer.Option(help="Device to train on: auto, cpu or cuda.")] = "auto",
    slice_minutes: Annotated[float, typer.Option(help="Minutes between two rounds of encoding new images.")] = 15.0,
    pictures: Annotated[int, typer.Option(help="Maximum number of stored encoded images.")] = 400_000,
    slices: Annotated[int | None, typer.Option(help="Stop after this many slices. Default: run until stopped.")] = None,
) -> None:
    """Continue training a family's base until stopped. The learning rate is constant; run again to resume."""
    check_extra("train", "Training a family", "peft", "tokenizers")
    import math

    from cloisonne.train.builtin.continued import continue_base
    from cloisonne.train.builtin.family import family_training

    first = _start(begin, out)
    work = family_training(
        out, math.inf, device=device, slice_minutes=slice_minutes, begin=first, pictures=pictures, report=to_stderr
    )
    continue_base(work, most_slices=math.inf if slices is None else slices)


@train.command("decoder")
def train_decoder(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the training state, as of train base.")],
    pictures: Annotated[int, typer.Option(help="Images to train on in all.")],
    begin: Annotated[
        str | None, typer.Option(help='Family whose decoder it is: "builtin" (default) or a finished family.')
    ] = None,
    device: Annotated[str, typer.Option(help="Device to train on: auto, cpu or cuda.")] = "auto",
    slice_minutes: Annotated[
        float | None, typer.Option(help="Stop after this many minutes; run again to resume.")
    ] = None,
    stored: Annotated[int, typer.Option(help="Maximum number of stored encoded images.")] = 400_000,
) -> None:
    """Train a family's decoder on against a critic. The encoder stays, so all other networks stay valid."""
    check_extra("train", "Training a family", "peft", "tokenizers")
    import math

    from cloisonne.train.builtin.continued import train_decoder as trained
    from cloisonne.train.builtin.family import family_training

    first = _start(begin, out)
    work = family_training(
        out, math.inf, device=device, slice_minutes=slice_minutes, begin=first, pictures=stored, report=to_stderr
    )
    finished = trained(work, pictures)
    typer.echo(f"Autoencoder written to {out / 'decoder'}" if finished else "Not finished, run again to resume")


def _start(begin: str | None, out: Path) -> Path | None:
    """The family that training starts from; None where it resumes from the one that it once started from."""
    from cloisonne.models.builtin import BUILTIN

    if begin is None and (out / "state" / "start").is_dir():
        return None
    return BUILTIN if begin in (None, "builtin") else Path(begin)


def train_reco(settings: reco.Settings) -> None:
    """Train ReCo for Stable Diffusion 1.x or 2.x. The data are images with COCO annotations.

    Every option may be written with dashes or underscores. Several GPUs: accelerate launch -m cloisonne train reco ...
    """
    check_extra("train", "Training ReCo", "peft")
    from cloisonne.train.reco.task import train as trained

    trained(settings, report=to_stderr)
    typer.echo(f"Pipeline written to {settings.output}")


def train_exemplar(settings: exemplar.Settings) -> None:
    """Train Paint by Example for Stable Diffusion 1.x or 2.x. The data are images with COCO boxes.

    Every option may be written with dashes or underscores. Several GPUs: accelerate launch -m cloisonne train exemplar
    """
    check_extra("train", "Training Paint by Example", "peft")
    from cloisonne.train.exemplar.task import train as trained

    trained(settings, report=to_stderr)
    typer.echo(f"Pipeline written to {settings.output}")


def train_control(settings: control.Settings) -> None:
    """Train a masked control adapter for Stable Diffusion 1.x or 2.x. It follows a map inside a mask.

    Every option may be written with dashes or underscores. Several GPUs: accelerate launch -m cloisonne train control
    """
    from cloisonne.train.control.task import train as trained

    trained(settings, report=to_stderr)
    typer.echo(f"Adapter written to {settings.output}")


def _spread(command: Callable[[Any], None], kind: type[engine.Settings]) -> Callable[..., None]:
    """A command with one option per field of its settings, and ``--resume``."""
    hints = get_type_hints(kind, include_extras=True)
    options = [_option(field, hints[field.name]) for field in fields(kind)]
    resume = typer.Option("--resume", help="Same as --resume_from_checkpoint latest.")
    options.append(_parameter("resume", Annotated[bool, resume], False))

    @functools.wraps(command)
    def run(*, resume: bool, **given: Any) -> None:
        from cloisonne.models.checkpoints.sources import check_source

        settings = kind(**given)
        settings.check()
        check_source(settings.base)
        if resume and settings.resume_from_checkpoint not in (None, LATEST):
            raise TrainingError("Both --resume and --resume_from_checkpoint were given; leave one out.")
        command(replace(settings, resume_from_checkpoint=LATEST) if resume else settings)

    run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    run.__annotations__ = {option.name: option.annotation for option in options}
    del run.__wrapped__  # type: ignore[attr-defined]
    return run


def _option(field: Field[Any], hint: Any) -> inspect.Parameter:
    assert get_origin(hint) is Annotated, "a setting's annotation holds its help text"
    kind, text = get_args(hint)
    name = f"--{field.name}"
    switch = f"{name}/--no_{field.name}" if field.default is True else name
    names = (switch, *_ALIASES.get(field.name, ()))
    return _parameter(field.name, Annotated[kind, typer.Option(*names, help=text)], field.default)


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    empty = inspect.Parameter.empty if default is MISSING else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=empty, annotation=annotation)


def _dashed(name: str) -> str:
    """Accept the underscores of diffusers' option names as well as dashes."""
    return name.replace("_", "-")


for _name, _command, _kind in (
    ("reco", train_reco, reco.Settings),
    ("exemplar", train_exemplar, exemplar.Settings),
    ("control", train_control, control.Settings),
):
    train.command(_name, context_settings={"token_normalize_func": _dashed})(_spread(_command, _kind))
