"""The options of ``cloisonne evaluate layouts`` that choose the benchmark and its judge."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cloisonne.bench.layout_choice import LayoutChoice


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The benchmark of layouts, its files, and who judges the images."""

    benchmark: Annotated[
        str, typer.Option(help="layouts-v1, coco, coco-mig, or spatial (T2I-CompBench's spatial prompts).")
    ] = "layouts-v1"
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="builtin|owlv2|grounding-dino|PATH",
            help="Who finds the objects: a detector's name or folder. Default: the built-in judge, for layouts-v1.",
        ),
    ] = None
    file: Annotated[
        Path | None, typer.Option(help="File of the benchmark: COCO-MIG's layouts, or spatial prompts.")
    ] = None
    instances: Annotated[Path | None, typer.Option(help="COCO's instances_*.json, for coco and coco-mig.")] = None
    captions: Annotated[Path | None, typer.Option(help="COCO's captions_*.json, for coco.")] = None
    photos: Annotated[
        Path | None, typer.Option(help="Folder of COCO's photographs, measured as one more row of coco.")
    ] = None
    segmenter: Annotated[
        str | None,
        typer.Option(
            metavar="sam|PATH", help="Measure colours in its masks, as COCO-MIG does. Default: in the detected box."
        ),
    ] = None
    threshold: Annotated[
        float | None, typer.Option(help="Least confidence of a detected box. Default: the detector's usual one.")
    ] = None
    images: Annotated[int, typer.Option(min=1, help="Number of images of each layout.")] = 1
    layout_seed: Annotated[
        int, typer.Option(help="Seed of COCO-MIG's layouts, where they are made from --instances.")
    ] = 0

    def checked(self) -> "LayoutChoice":
        """The choice. Raises SceneError or CheckpointError; imports no torch."""
        from cloisonne.bench.layout_choice import LayoutChoice

        choice = LayoutChoice(**vars(self))
        choice.check()
        return choice
