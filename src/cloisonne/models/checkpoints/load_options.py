"""Which options of ``load`` a source takes; what it does not take is refused by its name, before torch is imported."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cloisonne.errors import CapabilityError, spelled
from cloisonne.models.checkpoints.json_file import read_json
from cloisonne.models.checkpoints.sources import check_device, is_ip_adapter

TEXT_ONLY = (
    *("lora", "regional_lora", "embeddings", "exemplar", "image_encoder", "adapters", "fuser", "segmenter"),
    "tokenizer",
)
"""Options which only a model with a text encoder takes."""

NOUNS = {
    "lora": "LoRAs",
    "regional_lora": "LoRAs",
    "exemplar": "exemplar model",
    "image_encoder": "image encoder",
}
"""What options give, where the argument's name is not the noun."""


def is_exemplar_folder(folder: Path) -> bool:
    """Whether a folder is of Paint by Example: pictures are its only condition."""
    index = folder / "model_index.json"
    return index.is_file() and "image_encoder" in (found := read_json(index)) and found.get("text_encoder") is None


def check_options(source: str | Path, given: Mapping[str, Any]) -> None:
    """CapabilityError for an option that a source would pass over. given: options by their names in ``load``.

    A hub id is checked once it is a folder.
    """
    if "device" in given:
        check_device(str(given["device"]))
    asked = {name: value for name, value in given.items() if value}
    _check_image_encoder(asked)
    folder = Path(source).expanduser()
    if source == "builtin":
        _refuse("The built-in family", asked, ("variant",), "it has one set of weights")
        _refuse("The built-in family", asked, ("tokenizer", "prediction"), "it has its own")
    elif is_exemplar_folder(folder):
        _refuse(
            f'"{folder}" is a folder of Paint by Example, which',
            asked,
            TEXT_ONLY,
            "load a text model with the rest, and the folder with it: "
            + spelled("load(..., exemplar=FOLDER)", "--exemplar-model FOLDER"),
        )
    elif folder.is_dir():
        _refuse(f'The folder "{folder}"', asked, ("tokenizer",), "its own is read; exchange the files in it")
    elif folder.is_file():
        _refuse(f'The single file "{folder}"', asked, ("variant",), "it has one set of weights")
    if folder.is_dir() and source != "builtin":
        _check_prediction(folder, asked.get("prediction"))


def _refuse(subject: str, asked: Mapping[str, Any], options: tuple[str, ...], advice: str) -> None:
    for option in options:
        if option in asked:
            raise CapabilityError(f"{subject} takes no {NOUNS.get(option, option)}; {advice}.")


def _check_image_encoder(asked: Mapping[str, Any]) -> None:
    exemplar = asked.get("exemplar")
    if "image_encoder" in asked and (exemplar is None or not is_ip_adapter(Path(exemplar).expanduser())):
        raise CapabilityError(
            f"{named('image_encoder')} is that of an IP-Adapter, and none is given; give its .safetensors file as "
            f"{named('exemplar')}, or leave the image encoder out."
        )


def _check_prediction(folder: Path, prediction: str | None) -> None:
    file = folder / "scheduler" / "scheduler_config.json"
    if prediction is None or not file.is_file():
        return
    own = read_json(file).get("prediction_type", "epsilon")
    if own != prediction:
        raise CapabilityError(
            f'{named("prediction")} is "{prediction}", and the folder "{folder}" states "{own}" in '
            "scheduler/scheduler_config.json, which counts; correct prediction_type there, or leave the option out."
        )


def named(option: str) -> str:
    """An option of ``load`` as it is spelt on the surface in use."""
    spellings = {
        "exemplar": spelled("exemplar=", "--exemplar-model"),
        "image_encoder": spelled("image_encoder=", "--image-encoder"),
        "adapters": spelled("adapters=", "--adapter"),
        "prediction": spelled("prediction=", "--prediction"),
    }
    return spellings[option]
