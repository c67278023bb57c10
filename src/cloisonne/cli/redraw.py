"""Generate a PNG's scene again with a change, and measure how much the rest of the image differs.

``cloisonne generate picture.png --change hat="a green hat" -o new.png``
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cloisonne.cli.options import Changing
from cloisonne.cli.scene_arguments import scene_from
from cloisonne.cli.terminal import to_stderr
from cloisonne.errors import OutputError, SceneError
from cloisonne.pipelines.result import Result
from cloisonne.scene.changes import Changes, with_changes
from cloisonne.scene.fields import read_change
from cloisonne.scene.io import json_text as wire
from cloisonne.scene.io.image_ref import ImageRef
from cloisonne.scene.io.png_record import SIGNATURE, Record, read_record
from cloisonne.scene.io.source_image import Source
from cloisonne.scene.scene import Scene
from cloisonne.scene.values import quoted

if TYPE_CHECKING:
    from cloisonne.models.model import Model

MOST_NAMED = 5
"""How many unchanged regions the summary names: those that differ most."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Original:
    """The input scene of ``generate``.

    file: the PNG with the scene, or None. data: that file's bytes, because the new image may replace the file.
    record: the generation record of the PNG.
    """

    scene: Scene
    file: str | None = None
    data: bytes = b""
    record: Record | None = None

    @classmethod
    def of(cls, file: str | None, caption: str | None, regions: Sequence[str]) -> "Original":
        """The scene of a file ("-" is standard input), or of a caption and regions; see :func:`scene_from`."""
        if file is None or caption is not None or regions:
            return cls(scene=scene_from(file, caption, regions, {}))
        data, base = wire.read(file), Path() if file == "-" else Path(file).parent
        if not data.startswith(SIGNATURE):
            return cls(scene=Scene.from_json(data, base=base))
        record = read_record(data, quoted(file))
        return cls(scene=Scene.from_dict(record.scene, base=base), file=file, data=data, record=record)

    def asked(self, overrides: Mapping[str, Any], changing: Changing) -> Scene:
        """The changed scene. Raises SceneError for an invalid change, or if nothing would be preserved."""
        changes = {**overrides, **dict(read_change(self.scene, text) for text in changing.change or [])}
        if not changing.keep_outside:
            return with_changes(self.scene, changes)
        if self.file is None:
            raise SceneError(
                "--keep-outside needs the image of the scene, but no image was given; give its PNG as SCENE."
            )
        original = ImageRef(data=self.data) if self.file == "-" else ImageRef(path=Path(self.file))
        return with_changes(self.scene, changes, outside=original)

    def check_output(self, out: Path, changing: Changing, *, embed: bool) -> None:
        """Raise OutputError if the new image would replace the file that it refers to by path."""
        if changing.keep_outside and not embed and self.file and out.exists() and out.samefile(self.file):
            raise OutputError(
                f"The output {quoted(out)} would replace the input image, which it only refers to with --no-embed; "
                "choose another name, or leave --no-embed out."
            )

    def note(self, result: Result, paths: Sequence[Path]) -> None:
        """Compare the first written image with the original.

        The comparison goes to standard error and to ``changes`` of the report. Does nothing if the scene came from no
        PNG or is unchanged.
        """
        changes = Changes.between(self.scene, result.scene)
        if self.record is None or not changes:
            return
        result.report["warnings"] += _made_otherwise(self.record, result.model)
        old, new = (
            Source.load(picture, "picture").rgb for picture in (ImageRef(data=self.data), ImageRef(path=paths[0]))
        )
        result.report["changes"] = found = compared(changes, old, new)
        to_stderr(_sentence(found))


def compared(changes: Changes, old: NDArray[np.uint8], new: NDArray[np.uint8]) -> dict[str, Any]:
    """Absolute differences of two images, uint8 [H, W, 3], where nothing was changed, in grey levels, 0 to 255.

    changed, fields: names of the changed regions and scene fields. outside: mean and maximum outside the changed
    regions' masks, before and after; None if no pixel is outside. regions: for each unchanged active region, the mean
    inside its mask, less what changed regions cover; None if nothing is left.
    """
    height, width = old.shape[:2]
    outside = _unchanged(changes, height, width) & (old.shape == new.shape)
    difference = np.abs(old.astype(np.int64) - new) if outside.any() else np.zeros((height, width, 3), np.int64)

    def mean(where: NDArray[np.bool_]) -> float | None:
        return round(float(difference[where].mean()), 4) if where.any() else None

    untouched = [region for region in changes.after.active_regions if region.name not in changes.regions]
    largest = int(difference[outside].max()) if outside.any() else None
    return {
        "changed": list(changes.regions),
        "fields": list(changes.fields),
        "outside": None if largest is None else {"mean": mean(outside), "max": largest},
        "regions": {one.name: mean((one.soft_mask(height, width) > 0) & outside) for one in untouched},
    }


def _unchanged(changes: Changes, height: int, width: int) -> NDArray[np.bool_]:
    """[H, W]: True where nothing was changed. A changed scene field counts everywhere but under a preserved image."""
    covered, outside = changes.covered(height, width), changes.after.outside
    if changes.fields:
        drawn = np.ones((height, width)) if outside is None else outside.covered(changes.after.regions, height, width)
        covered = covered + drawn
    return covered == 0


def _sentence(found: Mapping[str, Any]) -> str:
    changed = ", ".join([*found["changed"], *(f"{name} of the whole scene" for name in found["fields"])])
    if found["outside"] is None:
        return f"Changed: {changed}; no pixel of the image is unaffected."
    largest = sorted(((mean, name) for name, mean in found["regions"].items() if mean is not None), reverse=True)
    inside = ", ".join(f"{name} {mean:.2f}" for mean, name in largest[:MOST_NAMED])
    return (
        f"Changed: {changed}; elsewhere grey levels differ by {found['outside']['mean']:.2f} on average and "
        f"{found['outside']['max']} at most" + (f" ({inside})." if inside else ".")
    )


def _made_otherwise(record: Record, model: "Model") -> list[str]:
    """A warning if the image was generated with other weights, device, dtype or thread count."""
    import torch

    made = model.record()
    now = {"weights": made["sha256"], "device": made["device"], "dtype": made["dtype"]}
    then = {"weights": record.model_hash, "device": record.device, "dtype": record.dtype}
    other = [name for name, value in now.items() if value != then[name]]
    if torch.get_num_threads() != record.threads:
        other.append("OMP_NUM_THREADS")
    warning = f"The image was generated with another {' and another '.join(other)}, so the rest differs too."
    return [warning] if other else []
