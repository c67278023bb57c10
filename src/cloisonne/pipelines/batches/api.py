"""``cloisonne.batch``, the public function."""

from os import PathLike
from pathlib import Path
from typing import Unpack

from cloisonne.models.model_spec import ModelSource, ModelSpec
from cloisonne.pipelines import keywords as kw
from cloisonne.pipelines.batches.run import BatchReport, OnImage, Settings, asked_of, run
from cloisonne.scene.io.scene_list import ScenesLike
from cloisonne.scene.scene import Scene
from cloisonne.scene.values import own_names


def batch(
    scenes: ScenesLike,
    model: ModelSource | None,
    folder: str | PathLike[str],
    *,
    workers: int = 1,
    threads: int = 1,
    num_images: int = 1,
    dataset: bool = False,
    overwrite: bool = False,
    judge: str | None = None,
    ray: str | None = None,
    on_image: OnImage | None = None,
    **options: Unpack[kw.BatchOptions],
) -> BatchReport:
    """Generate the images of a list of scenes into a folder; a second call generates what is missing.

    Each image has the bytes of :func:`generate` of its scene alone, with the same number of threads: they do not depend
    on the number of workers, on the order, or on interruptions. On a GPU, where scenes share their forward passes, they
    may differ in the last bits. A scene without a seed gets one from its name and content. An image without its line in
    ``manifest.jsonl`` is never there, whatever moment a process is killed at.

    Args:
        scenes: A folder of scenes (JSON, or PNG files that carry one), a JSONL file with a scene and its ``name`` in
            each line, a COCO annotation file, the layouts of COCO-MIG or LayoutSAM, or a mapping from names to scenes.
        model: What :func:`load` takes. None: the model that the scenes name.
        folder: For ``NAME.png``, ``NAME-0001.png`` and so on, and ``manifest.jsonl``.
        workers: Processes, each with a model of its own; of several GPUs each uses one.
        threads: Processor threads of each worker. On a CPU they affect the last bits.
        num_images: Images of each scene; image i has the scene's seed + i.
        dataset: Also write ``annotations.json``, COCO annotations of what was asked for.
        judge: Who then looks for what was asked for, and writes ``agreement.json``: "builtin" for the objects of the
            procedural world, "owlv2", "grounding-dino", or a detector's folder.
        overwrite: Replace images whose scene or model has changed, and files that no call of this function wrote.
        ray: Address of a Ray cluster whose actors are the workers, or "local"; None for processes of this machine.
        on_image: Receives a ``BatchProgress`` after each image and each failure; may raise ``Cancelled``.
        options: Fields of the scene that replace those of all scenes.

    Returns:
        Counts, and the scenes that were not generated, which ``failures.jsonl`` lists too.

    Raises:
        SceneError: The list cannot be read, or a keyword is invalid.
        CheckpointError, CapabilityError: The model cannot be loaded.
        OutputError: The folder cannot be written, such as on a full disk, or holds images of another model.
    """
    kw.check_keywords(batch, options, kw.BatchOptions)
    settings = Settings(workers=workers, threads=threads, dataset=dataset, overwrite=overwrite, judge=judge, ray=ray)
    fields = own_names(options, Scene.model_fields)
    place = Path(folder)
    asked, spec = asked_of(scenes, None if model is None else ModelSpec.of(model), fields, place, num_images)
    return run(asked, spec, place, settings, on_image)
