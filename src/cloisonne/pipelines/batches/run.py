"""A batch: a list of scenes becomes a folder of images, by worker processes, and a second call goes on.

This process imports no torch; only the workers do.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from cloisonne.errors import OutputError, SceneError, spelled
from cloisonne.eval.detection.agreement import check_judge
from cloisonne.models.checkpoints.load_options import check_options, check_paths
from cloisonne.models.model_spec import ModelSpec
from cloisonne.pipelines.batches.agreement import agreement_text, write_agreement
from cloisonne.pipelines.batches.dataset import write_dataset
from cloisonne.pipelines.batches.layout_lists import listed
from cloisonne.pipelines.batches.manifest import Line, Maker
from cloisonne.pipelines.batches.output_folder import OutputFolder
from cloisonne.pipelines.batches.pool import Pool
from cloisonne.pipelines.batches.process import COMMAND, WorkerProcess
from cloisonne.pipelines.batches.progress import BatchProgress, Counter, duration
from cloisonne.pipelines.batches.requests import Asked, Failure, Generated, ImageRequest, Worker
from cloisonne.pipelines.output.report import dropped_warnings
from cloisonne.scene.io.scene_list import ScenesLike
from cloisonne.scene.values import brief, quoted

FAILURES = "failures.jsonl"
"""The scenes of the last call that were not generated: name and error."""

OnImage: TypeAlias = Callable[[BatchProgress], None]


@dataclass(frozen=True, kw_only=True)
class BatchReport:
    """What a call of ``batch`` did.

    Attributes:
        folder: Where the images are.
        generated: Images of this call.
        present: Images that earlier calls had finished.
        failed: Scenes that were not generated: name and sentence.
        seconds: Duration of the call.
        annotations: The COCO file; None unless it was asked for.
        agreement: How many annotations a judge found, as in ``agreement.json``; None without a judge.
    """

    folder: Path
    generated: int
    present: int
    failed: tuple[tuple[str, str], ...]
    seconds: float
    annotations: Path | None = None
    agreement: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        present = f", {self.present:,} were there" if self.present else ""
        failed = f", {len(self.failed):,} scenes failed" if self.failed else ""
        judged = "" if self.agreement is None else f"\n{agreement_text(self.agreement)}"
        return f"{self.generated:,} images in {self.folder}{present}{failed}, {duration(self.seconds)}{judged}"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a batch runs; as the keywords of :func:`cloisonne.batch`.

    Attributes:
        workers, threads: at least 1.
        ray: address of a Ray cluster whose actors are the workers, or "local"; None for processes of this machine.
        judge: who looks for the annotations of a data set; None for nobody.
        command: of the worker processes.
    """

    workers: int = 1
    threads: int = 1
    dataset: bool = False
    overwrite: bool = False
    ray: str | None = None
    judge: str | None = None
    command: Sequence[str] = COMMAND

    def __post_init__(self) -> None:
        check_count("workers", self.workers)
        check_count("threads", self.threads)
        if self.judge is not None:
            if not self.dataset:
                raise SceneError(
                    f"{spelled('judge', '--judge')} looks for annotations; add {spelled('dataset=True', '--dataset')}."
                )
            check_judge(self.judge)


def asked_of(
    scenes: ScenesLike, model: ModelSpec | None, fields: Mapping[str, Any], folder: Path, num_images: int
) -> tuple[Asked, ModelSpec]:
    """The images of a list of scenes, and the model: without one, that of the first scene.

    Raises SceneError, or OutputError where the folder is a file.
    """
    check_count("num_images", num_images)
    found = listed(scenes)
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"The output {quoted(folder)} is a file; name a folder.")
    if not isinstance(scenes, Mapping) and folder.exists() and Path(scenes).is_dir() and folder.samefile(scenes):
        raise SceneError(f"The folder {quoted(folder)} holds the scenes; choose another one for the images.")
    given = {name: value for name, value in fields.items() if value is not None}
    asked = Asked(scenes=found, fields=given, num_images=num_images, model=None if model is None else model.source)
    return asked, model or ModelSpec.of(_model_of(asked))


def check_count(name: str, count: Any) -> None:
    """Raise SceneError for anything but a whole number of at least 1."""
    if type(count) is not int or count < 1:
        label = spelled(name, f"--{name.replace('_', '-')}")
        raise SceneError(f"{label} is {brief(count)}; give a whole number of at least 1.")


def run(
    asked: Asked, spec: ModelSpec, folder: Path, settings: Settings, on_image: OnImage | None = None
) -> BatchReport:
    """:func:`cloisonne.batch` with its arguments read."""
    began = time.monotonic()
    check_paths(spec.source, spec.given())
    check_options(spec.source, spec.given())
    counter, failed = Counter(len(asked)), list[tuple[str, str]]()
    with OutputFolder(folder, overwrite=settings.overwrite) as output:
        failures = _Failures(folder)
        pool = Pool(_workers(spec, folder, settings, len(asked)), lambda maker: _missing(asked, output, maker, counter))
        with closing(pool.outcomes()) as outcomes:
            for outcome in outcomes:
                if isinstance(outcome, Failure):
                    failed.append((outcome.name, outcome.error))
                    failures.add(outcome)
                    event = counter.count(outcome.name, error=outcome.error, images=outcome.images)
                else:
                    line = _line(outcome)
                    output.add(line, outcome.png)
                    event = counter.count(line.name, warnings=(*line.warnings, *dropped_warnings(line.dropped)))
                if on_image is not None:
                    on_image(event)
        annotations = write_dataset(folder) if settings.dataset else None
        judge = settings.judge
        agreement = None if judge is None else write_agreement(folder, judge, spec.device)
    return BatchReport(
        folder=folder,
        generated=counter.generated,
        present=counter.present,
        failed=tuple(failed),
        seconds=time.monotonic() - began,
        annotations=annotations,
        agreement=agreement,
    )


def _workers(spec: ModelSpec, folder: Path, settings: Settings, num_images: int) -> list[Worker]:
    values, place = {"source": spec.source, **spec.to_dict()}, folder.absolute()
    if settings.ray is not None:
        from cloisonne.pipelines.batches.ray_cluster import connect
        from cloisonne.pipelines.batches.ray_worker import RayWorker

        connect(settings.ray, cpus=settings.workers * settings.threads, label=spelled("ray=", "--ray"))
        count = range(max(min(settings.workers, num_images), 1))
        return [RayWorker(spec=values, folder=place, threads=settings.threads) for _ in count]
    return [
        WorkerProcess(spec=values, folder=place, threads=settings.threads, place=index, command=settings.command)
        for index in range(max(min(settings.workers, num_images), 1))
    ]


def _missing(asked: Asked, output: OutputFolder, maker: Maker, counter: Counter) -> Iterator[ImageRequest | Failure]:
    """The requests whose images are not finished."""
    output.check_maker(maker)
    for request in asked.requests():
        if isinstance(request, Failure):
            yield request
            continue
        try:
            if output.has(request.file, request.content, request.scene.seed or 0, maker):
                counter.present += 1
                continue
        except OutputError as error:
            yield Failure(name=request.name, error=str(error))
        else:
            yield request


def _line(generated: Generated) -> Line:
    request, about, maker = generated.request, generated.about, generated.maker
    return Line(
        file=request.file,
        name=request.name,
        scene=request.content,
        seed=request.scene.seed or 0,
        sha256=hashlib.sha256(generated.png).hexdigest(),
        width=about["width"],
        height=about["height"],
        dropped=tuple(about["dropped"]),
        warnings=(*request.warnings, *about["warnings"]),
        model=maker.model,
        device=maker.device,
        dtype=maker.dtype,
        threads=maker.threads,
    )


def _model_of(asked: Asked) -> str:
    """The model of the first scene that can be read. Raises SceneError where there is none."""
    last = ""
    for request in asked.requests():
        if isinstance(request, ImageRequest):
            return request.scene.model
        last = f'"{request.name}": {request.error}'
    raise SceneError(f"None of the {len(asked.scenes)} scenes can be read; the last: {last}")


class _Failures:
    """The file of failures, begun anew by each call. It is there only where there are any."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FAILURES
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f'"{self._path}" cannot be deleted ({error.strerror}); choose another folder.') from None

    def add(self, failure: Failure) -> None:
        """Add a line. Raises OutputError where the disk does not take it."""
        text = json.dumps({"name": failure.name, "error": failure.error}) + "\n"
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise OutputError(
                f'"{self._path}" cannot be written ({error.strerror}); free space on its disk. A second call goes on '
                "where this one stopped."
            ) from None
