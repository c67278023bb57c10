"""The benchmark of layouts to run, and who judges it: checked before any network library is imported."""

from dataclasses import dataclass
from pathlib import Path

from cloisonne.errors import SceneError
from cloisonne.eval.detection.coco import coco_layouts
from cloisonne.eval.detection.coco_mig import read_mig, sampled
from cloisonne.eval.detection.layouts import LayoutList
from cloisonne.eval.detection.sources import DETECTORS, detector_folder, segmenter_folder
from cloisonne.eval.detection.spatial import read_spatial

WORLD, COCO, MIG, SPATIAL = "layouts-v1", "coco", "coco-mig", "spatial"
BENCHMARKS = (WORLD, COCO, MIG, SPATIAL)
BUILTIN_JUDGE = "builtin"

_NEEDED: dict[str, tuple[str, ...]] = {WORLD: (), COCO: ("instances", "captions"), MIG: (), SPATIAL: ("file",)}
_OPTIONAL: dict[str, tuple[str, ...]] = {WORLD: (), COCO: ("photos",), MIG: ("file", "instances"), SPATIAL: ()}
_FILES = {
    "file": ("--file", "the benchmark's file"),
    "instances": ("--instances", "COCO's instances_val2017.json"),
    "captions": ("--captions", "COCO's captions_val2017.json"),
    "photos": ("--photos", "the folder of COCO's photographs"),
}
"""The option of each file, and what it is."""


@dataclass(frozen=True, kw_only=True)
class LayoutChoice:
    """A benchmark of layouts and its judge.

    benchmark: one of ``BENCHMARKS``. judge: "builtin", a key of ``DETECTORS`` or a folder; None is the built-in one,
    for layouts-v1. file: COCO-MIG's file, or the spatial prompts. instances, captions, photos: of COCO. segmenter:
    "sam" or a folder. threshold: least confidence of a detected box, in [0, 1]. images: of each layout. layout_seed: of
    COCO-MIG's layouts, where there is no file of them.
    """

    benchmark: str = WORLD
    judge: str | None = None
    file: Path | None = None
    instances: Path | None = None
    captions: Path | None = None
    photos: Path | None = None
    segmenter: str | None = None
    threshold: float | None = None
    images: int = 1
    layout_seed: int = 0

    @property
    def detected(self) -> bool:
        """Whether a detector judges, not the built-in judge."""
        return self.judge not in (None, BUILTIN_JUDGE)

    def check(self) -> None:
        """Raise SceneError for options that do not fit each other, CheckpointError for files that are not there."""
        if self.benchmark not in BENCHMARKS:
            raise SceneError(f'There is no benchmark "{self.benchmark}"; choose one of {", ".join(BENCHMARKS)}.')
        self._check_files()
        self._check_judge()
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise SceneError(f"--threshold is {self.threshold}; give a confidence from 0 to 1.")

    def _check_files(self) -> None:
        needed, optional = _NEEDED[self.benchmark], _OPTIONAL[self.benchmark]
        for name, (option, what) in _FILES.items():
            path = getattr(self, name)
            if path is None and name in needed:
                raise SceneError(f'The benchmark "{self.benchmark}" needs {what}; give {option} PATH.')
            if path is not None and name not in (*needed, *optional):
                raise SceneError(f'The benchmark "{self.benchmark}" does not use {option}; leave it out.')
            if path is not None and not path.expanduser().exists():
                raise SceneError(f'There is no file "{path}" ({what}); check its path.')
        if self.benchmark == MIG and (self.file is None) == (self.instances is None):
            raise SceneError(
                'The benchmark "coco-mig" needs its own file, --file mig_bench_anno.yaml, or COCO\'s annotations to '
                "make layouts from, --instances instances_val2014.json; give one of them."
            )
        if self.layout_seed and (self.benchmark != MIG or self.file is not None):
            raise SceneError("--layout-seed is for layouts of COCO-MIG that are made from --instances; leave it out.")

    def _check_judge(self) -> None:
        names = ", ".join(DETECTORS)
        if not self.detected:
            if self.benchmark != WORLD:
                raise SceneError(
                    f'The built-in judge knows only the objects of layouts-v1; give --judge for "{self.benchmark}": '
                    f"{names}, or the folder of a detector."
                )
            for option, value in (("--segmenter", self.segmenter), ("--threshold", self.threshold)):
                if value is not None:
                    raise SceneError(f"The built-in judge has no {option}; leave it out, or give --judge: {names}.")
            if self.images != 1:
                raise SceneError(f"The built-in judge measures one image of each layout; give --judge: {names}.")
        elif self.judge is not None:
            detector_folder(self.judge)
        if self.segmenter is not None:
            segmenter_folder(self.segmenter)

    def layouts(self) -> LayoutList:
        """The layouts, read or made from the files. Raises SceneError for files of another form."""
        if self.benchmark == COCO and self.instances is not None and self.captions is not None:
            return coco_layouts(self.instances, self.captions)
        if self.benchmark == SPATIAL and self.file is not None:
            return read_spatial(self.file)
        if self.benchmark == MIG and self.file is not None:
            return read_mig(self.file)
        if self.benchmark == MIG and self.instances is not None:
            return sampled(self.instances, self.layout_seed)
        from cloisonne.eval.detection.world import world_layouts

        return world_layouts()
