"""Where the networks that judge images are read from: a folder, or the hub's local cache. Nothing is downloaded."""

from dataclasses import dataclass
from pathlib import Path

from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.json_file import read_json


@dataclass(frozen=True)
class Published:
    """A published network: its hub id, and the size of its weights in GB."""

    repository: str
    gigabytes: float


DETECTORS = {
    "owlv2": Published("google/owlv2-base-patch16-ensemble", 0.6),
    "grounding-dino": Published("IDEA-Research/grounding-dino-tiny", 0.7),
}
"""Of the names of ``--judge``. grounding-dino is the Swin-T that COCO-MIG uses."""
SEGMENTERS = {"sam": Published("facebook/sam-vit-huge", 2.6)}
"""Of the names of ``--segmenter``."""
OWL, GROUNDING = ("owlv2", "owlvit"), ("grounding-dino", "mm-grounding-dino")
DETECTOR_TYPES, SEGMENTER_TYPES = (*OWL, *GROUNDING), ("sam",)
"""``model_type`` of the configurations that can be read."""
_CONFIGURATIONS = ("config.json", "preprocessor_config.json", "processor_config.json", "tokenizer_config.json")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


def detector_folder(source: str) -> Path:
    """The folder of a judge. source: a key of ``DETECTORS``, or a folder. Raises CheckpointError; reads no weights."""
    return _checked(_folder(source, "judge", DETECTORS), "detector", DETECTOR_TYPES)


def segmenter_folder(source: str) -> Path:
    """The same for a segmenter. source: a key of ``SEGMENTERS``, or a folder."""
    return _checked(_folder(source, "segmenter", SEGMENTERS), "segmenter", SEGMENTER_TYPES)


def refuse_code_in(folder: Path) -> None:
    """Raise CheckpointError where a configuration in the folder names code to run."""
    from cloisonne.models.checkpoints.network_config import refuse_code

    for name in _CONFIGURATIONS:
        if (folder / name).is_file():
            refuse_code(folder / name, read_json(folder / name))


def _folder(source: str, what: str, names: dict[str, Published]) -> Path:
    path = Path(source).expanduser()
    if source not in names:
        if not path.is_dir():
            known = ", ".join(f'"{name}"' for name in names)
            raise CheckpointError(f'There is no {what} "{source}"; give {known}, or a folder.')
        return path
    from huggingface_hub import try_to_load_from_cache

    published = names[source]
    config = try_to_load_from_cache(published.repository, "config.json")
    if not isinstance(config, str):
        raise CheckpointError(
            f'The {what} "{source}" is {published.repository} on the hub, which the local cache does not hold, and '
            f"judges are not downloaded on their own. Download it once ({published.gigabytes} GB) with "
            f'"hf download {published.repository}", or give the path of its folder.'
        )
    return Path(config).parent


def _checked(folder: Path, what: str, types: tuple[str, ...]) -> Path:
    found = str(read_json(folder / "config.json").get("model_type", "")).replace("_", "-")
    if found not in types:
        raise CheckpointError(
            f'"{folder}" holds a network of type "{found}", which is no {what} that can be read; supported are '
            f"{', '.join(types)}."
        )
    if not any((folder / name).is_file() for name in _WEIGHTS):
        raise CheckpointError(
            f'"{folder}" has no model.safetensors; download the weights as safetensors (pickles are not loaded).'
        )
    return folder
