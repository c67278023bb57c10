"""The verbs, done by the library in a worker process: a scene and a model become pictures and a report.

All calls of the library that need networks are in this file.
"""

import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cloisonne.errors import CapabilityError, CloisonneError, OutputError
from cloisonne.scene import Scene, uncovered, write_picture
from cloisonne.scene.control_maps import DRAWN
from cloisonne.studio.refusals import kind_of

Report = Callable[[dict[str, Any], Callable[[], Any] | None], None]
"""Receives the fields of a progress event, and what makes its preview; may raise Cancelled."""
MAPS = "map-"
"""Start of the names of pictures that are attention maps of a region, one above the other."""
COVERAGE_SIDE = 256
"""Longer side, in pixels, at which a dry run rasterises regions to measure them."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What a job made: named PNG files, and the report of ``--json``."""

    pictures: list[tuple[str, bytes]]
    report: dict[str, Any]


def load_model(spec: Mapping[str, Any], device: str) -> Any:
    """Load a model of the operator's list on this device. Raises CheckpointError or CapabilityError."""
    from cloisonne.models.load import load

    return load(spec, device=device)


def describe_model(model: Any) -> dict[str, Any]:
    """What a client needs to know of a loaded model: defaults, and each condition, with the reason if it lacks it."""
    from cloisonne.methods.kinds import KINDS, OF_SCENES
    from cloisonne.methods.kinds import check as check_condition
    from cloisonne.models.families import FAMILIES

    conditions: dict[str, Any] = {}
    concepts = ["flow" if model.spec.takes_references else "vct"]
    kinds = {"control": [*model.adapters, *model.controlnets], "lora": [*model.net.loras], "concept": concepts}
    for condition in KINDS:
        try:
            check_condition(condition, model, kind=next(iter(kinds.get(condition, [None])), "NAME"))
            conditions[condition] = {"supported": True, "reason": None}
        except CapabilityError as error:
            conditions[condition] = {"supported": False, "reason": str(error)}
    conditions |= {name: {"supported": True, "reason": None} for name in OF_SCENES}
    names = ("width", "height", "steps", "guidance", "sampler", "method", "conditional_controls")
    native = {name: getattr(model.native, name) for name in names}
    words = None if model.vocabulary is None else {k: [list(e) for e in v] for k, v in model.vocabulary.groups.items()}
    return {
        "family": model.family,
        "title": FAMILIES[model.family].title,
        "defaults": native,
        "grid": model.spec.factor,
        "conditions": conditions,
        "controls": kinds["control"],
        "loras": kinds["lora"],
        "vocabulary": words,
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "parameters": model.parameters,
    }


def draw(verb: str, scene: Scene, model: Any, options: Mapping[str, Any], report: Report) -> Drawn:
    """Do a job. Raises CloisonneError, Cancelled, or what a failed run raises."""
    with tempfile.TemporaryDirectory(prefix="cloisonne-") as folder:
        out = Path(folder)
        make = {"edit": _edit, "explain": _attention, "sweep": _sweep, "control": _control}.get(verb, _generate)
        made, paths = make(scene, model, options, report, out)
        return Drawn(pictures=[(path.stem, path.read_bytes()) for path in paths], report=made)


def draw_together(
    scenes: Sequence[Scene], model: Any, options: Mapping[str, Any], reports: Sequence[Report]
) -> list[Drawn]:
    """Generate scenes in shared forward passes where they are compatible. Raises what :func:`draw` raises."""
    from cloisonne.pipelines.generate import generate_batched

    count = options.get("num_images", 1)
    results = generate_batched(scenes, model, [reported(report) for report in reports], num_images=count)
    made = []
    for result, report in zip(results, reports, strict=True):
        report({"stage": "encoding"}, None)
        with tempfile.TemporaryDirectory(prefix="cloisonne-") as folder:
            report_fields, paths = _saved(result, count, Path(folder))
            pictures = [(path.stem, path.read_bytes()) for path in paths]
        made.append(Drawn(pictures=pictures, report=report_fields))
    return made


def _generate(scene: Scene, model: Any, options: Mapping[str, Any], report: Report, out: Path) -> Any:
    from cloisonne.pipelines.generate import generate

    count = options.get("num_images", 1)
    result = generate(scene, model, num_images=count, on_step=reported(report))
    report({"stage": "encoding"}, None)
    return _saved(result, count, out)


def _saved(result: Any, count: int, out: Path) -> Any:
    """The report and the files of one or several images."""
    paths = result.save(out / "0000.png" if count == 1 else out)
    return result.report | {"warnings": list(result.warnings)}, paths


def _edit(scene: Scene, model: Any, options: Mapping[str, Any], report: Report, out: Path) -> Any:
    from cloisonne.pipelines.editing.edit import edit

    result = edit(scene, model, on_step=reported(report), **options)
    paths = result.save(out)
    return result.report | {"warnings": list(result.warnings)}, paths


def _attention(scene: Scene, model: Any, options: Mapping[str, Any], report: Report, out: Path) -> Any:
    from cloisonne.pipelines.attention_maps.files import strip_paths
    from cloisonne.pipelines.attention_maps.overlay import attention_pictures

    maps = attention_pictures(scene, model, on_step=reported(report))
    paths = maps.save(out)
    layers: dict[str, Any] = {}
    for region, path in strip_paths(out, maps.result.scene):
        if (own := maps.maps.get(region.name or "")) is not None:
            layer = path.with_name(f"{MAPS}{path.stem}.png")
            write_picture(_stacked([own[step].numpy() for step in sorted(own)]), layer)
            paths.append(layer)
            layers[region.name or ""] = {"picture": layer.stem, "steps": sorted(own)}
    attention = {"count": maps.count, "window": list(maps.window), "regions": layers}
    warnings = {"unread": dict(maps.unread), "warnings": list(maps.result.warnings)}
    return maps.result.report | warnings | {"attention": attention}, paths


def _stacked(maps: Sequence[Any]) -> Any:
    """Attention maps [h, w] of one region, one above the other, from 0 (their minimum) to 255 (their maximum)."""
    from PIL import Image

    read = np.concatenate(maps)
    span = max(float(read.max() - read.min()), 1e-8)
    return Image.fromarray(((read - read.min()) / span * 255).round().astype(np.uint8))


def _sweep(scene: Scene, model: Any, options: Mapping[str, Any], report: Report, out: Path) -> Any:
    from cloisonne.pipelines.sweep import sheet_of, sweep

    field, values = options["field"], options["values"]
    results = sweep(scene, model, field, values, on_step=reported(report))
    write_picture(sheet_of(results, field, values), out / "sheet.png")
    paths = [out / "sheet.png"]
    for index, result in enumerate(results):
        paths += result.save(out / f"{index:04d}.png")
    warnings = list(dict.fromkeys(warning for result in results for warning in result.warnings))
    seconds = sum(result.report["seconds"] for result in results)
    return {"scene": scene.to_dict(complete=True), "seconds": seconds, "warnings": warnings}, paths


def _control(scene: Scene, model: Any, options: Mapping[str, Any], report: Report, out: Path) -> Any:
    from PIL import Image

    from cloisonne.scene.io.images import open_rgb

    assert scene.background is not None, "the scene of a control map has a background"
    pixels = np.asarray(open_rgb(scene.background, "picture"))
    write_picture(Image.fromarray(DRAWN[options.get("kind", "canny")](pixels)), out / "control.png")
    return {"warnings": []}, [out / "control.png"]


def reported(report: Report) -> Callable[[Any], None]:
    """A callback that reports each ``Progress``."""

    def on_step(event: Any) -> None:
        fields = ("stage", "step", "total", "image", "num_images", "loss")
        preview = event.preview if event.x0 is not None else None
        report({name: getattr(event, name) for name in fields}, preview)

    return on_step


def error_of(error: BaseException) -> tuple[str, str, str | None]:
    """Kind, sentence and region of a failure, with the sentence of the command line."""
    if isinstance(error, CloisonneError) and not isinstance(error, OutputError):
        return kind_of(error), str(error), error.region
    reason = str(error).strip().splitlines()
    return "failed", f"The run failed: {reason[0] if reason else type(error).__name__}", None


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings on standard error: they are in the reports."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def dry_run(scene: Scene, model: Any) -> dict[str, Any]:
    """What becomes of each region of a scene, and what it costs; no network is run.

    Regions that the model does not support are left out one after the other, so that all of them are found.
    """
    from cloisonne.pipelines.explain import explain

    refused: list[dict[str, Any]] = []
    asked, found = scene, None
    while found is None:
        try:
            found = explain(asked, model)
        except CloisonneError as error:
            refused.append(dict(zip(("kind", "message", "region"), error_of(error), strict=True)))
            left = tuple(region for region in asked.regions if region.name != error.region)
            if len(left) == len(asked.regions):
                break
            asked = asked.model_copy(update={"regions": left})
    answer: dict[str, Any] = {"ok": not refused, "unsupported": refused, "cost": None, "dropped": [], "warnings": []}
    if found is not None:
        cost = ("steps", "forwards", "rows", "tokens", "flops", "memory_bytes", "seconds", "device", "setup_forwards")
        answer |= {"cost": {name: getattr(found, name) for name in cost}, "dropped": list(found.dropped)}
        answer |= {"warnings": list(found.warnings), "notes": list(found.notes), "text": str(found)}
        answer |= {"window": found.window, "width": found.scene.width, "height": found.scene.height}
    by_region = {one["region"]: one["message"] for one in refused}
    regions, rest = _coverage(scene, found.scene if found is not None else scene)
    for region in regions:
        region |= {"dropped": region["name"] in answer["dropped"], "unsupported": by_region.get(region["name"])}
        named = f'Region "{region["name"]}"'
        region["warnings"] = [warning for warning in answer["warnings"] if warning.startswith(named)]
    return answer | {"regions": regions, "caption_share": rest}


def _coverage(scene: Scene, resolved: Scene) -> tuple[list[dict[str, Any]], float | None]:
    """For each region the fraction of the canvas that it covers, and the fraction of it that each other one covers.

    Also the fraction that is left to the caption. Regions whose mask cannot be read cover None.
    """
    width, height = resolved.width or COVERAGE_SIDE, resolved.height or COVERAGE_SIDE
    scale = min(1.0, COVERAGE_SIDE / max(width, height))
    width, height = max(round(width * scale), 1), max(round(height * scale), 1)
    masks: dict[str, Any] = {}
    for region in scene.active_regions:
        try:
            masks[region.name or ""] = region.soft_mask(height, width)
        except CloisonneError:
            continue
    flat = {name: mask.ravel() for name, mask in masks.items()}
    regions = []
    for region in scene.regions:
        own = flat.get(region.name or "")
        area = None if own is None else float(own.sum())
        overlaps = {} if own is None else {n: float(np.minimum(own, o).sum()) for n, o in flat.items() if o is not own}
        shares = {name: round(shared / area, 4) for name, shared in overlaps.items() if area and shared}
        covered = None if own is None or area is None else round(area / own.size, 6)
        regions.append({"name": region.name, "active": region.active, "coverage": covered, "overlaps": shares})
    return regions, float(uncovered(list(masks.values()), height, width).mean()) if masks else None
