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
"""What diffusers' training scripts call it."""


@train.command("family")
def train_family(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the family and the state of its training.")],
    minutes: Annotated[float, typer.Option(help="Training time of all members together.")],
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    slice_minutes: Annotated[float | None, typer.Option(help="Stop after this long; call again to go on.")] = None,
    begin: Annotated[
        str | None, typer.Option(help='"builtin" or a finished family: train its base, exemplar and controls on.')
    ] = None,
) -> None:
    """Rebuild the built-in family from nothing, or go on where the last call stopped."""
    from cloisonne.bench.member_sheets import write_sheet
    from cloisonne.models.builtin import BUILTIN
    from cloisonne.train.builtin.family import train_family as rebuilt

    def made(member: str, family: Path) -> None:
        write_sheet(member, family, out / "sheets")

    first = BUILTIN if begin == "builtin" else Path(begin) if begin else None
    finished = rebuilt(
        out, minutes, device=device, slice_minutes=slice_minutes, begin=first, report=to_stderr, made=made
    )
    typer.echo(f"{'The family lies' if finished else 'Not finished, call again; so far'} in {out / 'family'}")


@train.command("base")
def train_base(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the state of the training.")],
    begin: Annotated[str, typer.Option(help='"builtin" or a finished family.')] = "builtin",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    slice_minutes: Annotated[float, typer.Option(help="Encode further pictures after so many minutes.")] = 15.0,
    pictures: Annotated[int, typer.Option(help="Most pictures that are kept encoded.")] = 400_000,
    slices: Annotated[int | None, typer.Option(help="Stop after so many slices; until stopped without.")] = None,
) -> None:
    """Train a family's base on at a constant learning rate until stopped; call again to go on."""
    import math

    from cloisonne.models.builtin import BUILTIN
    from cloisonne.train.builtin.continued import continue_base
    from cloisonne.train.builtin.family import work_of

    first = BUILTIN if begin == "builtin" else Path(begin)
    work = work_of(
        out, math.inf, device=device, slice_minutes=slice_minutes, begin=first, pictures=pictures, report=to_stderr
    )
    continue_base(work, most_slices=math.inf if slices is None else slices)


def train_reco(settings: reco.Settings) -> None:
    """Teach a Stable Diffusion 1.x or 2.x checkpoint regions: ReCo, on pictures with COCO annotations.

    Every option may be written with dashes or underscores. Several GPUs: accelerate launch -m cloisonne train reco ...
    """
    from cloisonne.train.reco.task import train as trained

    trained(settings, report=to_stderr)
    typer.echo(f"The pipeline lies in {settings.output}")


def train_exemplar(settings: exemplar.Settings) -> None:
    """Teach a Stable Diffusion 1.x or 2.x checkpoint exemplars: Paint by Example, on pictures with COCO boxes.

    Every option may be written with dashes or underscores. Several GPUs: accelerate launch -m cloisonne train exemplar
    """
    from cloisonne.train.exemplar.task import train as trained

    trained(settings, report=to_stderr)
    typer.echo(f"The pipeline lies in {settings.output}")


def train_control(settings: control.Settings) -> None:
    """Train an adapter that obeys a map inside of a mask, for a Stable Diffusion 1.x or 2.x checkpoint.

    Every option may be written with dashes or underscores. Several GPUs: accelerate launch -m cloisonne train control
    """
    from cloisonne.train.control.task import train as trained

    trained(settings, report=to_stderr)
    typer.echo(f"The adapter lies in {settings.output}")


def _spread(command: Callable[[Any], None], kind: type[engine.Settings]) -> Callable[..., None]:
    """A command with an option for each field of its settings, and ``--resume``."""
    hints = get_type_hints(kind, include_extras=True)
    options = [_option(field, hints[field.name]) for field in fields(kind)]
    resume = typer.Option("--resume", help="The same as --resume_from_checkpoint latest.")
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
    assert get_origin(hint) is Annotated, "a setting's type carries its help"
    kind, told = get_args(hint)
    name = f"--{field.name}"
    switch = f"{name}/--no_{field.name}" if field.default is True else name
    names = (switch, *_ALIASES.get(field.name, ()))
    return _parameter(field.name, Annotated[kind, typer.Option(*names, help=told)], field.default)


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    empty = inspect.Parameter.empty if default is MISSING else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=empty, annotation=annotation)


def _dashed(name: str) -> str:
    """diffusers writes its options with underscores, we with dashes: both are read."""
    return name.replace("_", "-")


for _name, _command, _kind in (
    ("reco", train_reco, reco.Settings),
    ("exemplar", train_exemplar, exemplar.Settings),
    ("control", train_control, control.Settings),
):
    train.command(_name, context_settings={"token_normalize_func": _dashed})(_spread(_command, _kind))
