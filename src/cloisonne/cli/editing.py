"""Options of ``cloisonne edit`` for its preset."""

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from cloisonne.errors import SceneError


def _refuse_looks(given: str | None) -> None:
    """Raise SceneError for the name that an option had in 0.1."""
    if given is not None:
        raise SceneError("--looks is now --self-attention-share; use that name.")


@dataclass(frozen=True, kw_only=True)
class Editing:
    """Options of the method."""

    preset: Annotated[
        str | None, typer.Option(help="Editing method: flow, mrgd, follow, official, p2p or multidiffusion.")
    ] = None
    self_attention_share: Annotated[
        float | None,
        typer.Option(help="Fraction of the steps, 0 to 1, in which edited regions reuse the source's self-attention."),
    ] = None
    looks: Annotated[str | None, typer.Option(hidden=True, callback=_refuse_looks)] = None
    flow_start: Annotated[
        float | None,
        typer.Option(
            help="Preset flow: fraction of the steps, 0 to 1, in which every edited region changes. Default: 0.6 where "
            "the object stays the same; what is added, removed or replaced is painted anew."
        ),
    ] = None
    n_avg: Annotated[
        int | None, typer.Option(min=1, help="Preset flow: number of noises to average per step. Default: 1.")
    ] = None
    source_guidance: Annotated[
        float | None, typer.Option(help="Preset flow: guidance scale of the image before. Default: 1, none.")
    ] = None

    reuse_background: Annotated[
        bool | None,
        typer.Option(
            "--reuse-background",
            help="Diffusion transformers: compute only the edited regions of the image after, next to the attention "
            "keys and values of the rest of the image before. The report has the memory of these.",
        ),
    ] = None

    def given(self) -> dict[str, Any]:
        """The fields of the preset to change."""
        names = ("self_attention_share", "flow_start", "n_avg", "source_guidance", "reuse_background")
        return {name: value for name in names if (value := getattr(self, name)) is not None}
