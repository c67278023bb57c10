"""Which options of ``load`` apply to a source; the others are refused by name, before torch is imported."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cloisonne.errors import CapabilityError, CheckpointError, spelled
from cloisonne.models.checkpoints.json_file import read_json
from cloisonne.models.checkpoints.sources import check_device, check_kinds, check_path, check_source, is_ip_adapter

TEXT_ONLY = (
    *("lora", "regional_lora", "embeddings", "exemplar", "image_encoder", "adapters", "fuser", "segmenter"),
    "tokenizer",
)
"""Options that apply only to a model with a text encoder."""

OF_FILES = ("text_encoders", "vae")
"""Options that apply only to a single file with a diffusion transformer."""

NOUNS = {
    "text_encoders": "files of text encoders",
    "vae": "file of an autoencoder",
    "lora": "LoRAs",
    "regional_lora": "LoRAs",
    "exemplar": "exemplar model",
    "image_encoder": "image encoder",
}
"""Nouns of options in messages, where they differ from the argument's name."""


def is_exemplar_folder(folder: Path) -> bool:
    """Whether a folder is of Paint by Example: it has an image encoder and no text encoder."""
    index = folder / "model_index.json"
    return index.is_file() and "image_encoder" in (found := read_json(index)) and found.get("text_encoder") is None


def is_transformer_folder(folder: Path) -> bool:
    """Whether a folder is of a pipeline with a diffusion transformer."""
    index = folder / "model_index.json"
    return index.is_file() and "transformer" in read_json(index)


def check_options(source: str | Path, given: Mapping[str, Any]) -> None:
    """Raise CapabilityError for an option that the source would ignore. given: options by their names in ``load``.

    A hub id is checked after its download.
    """
    if "device" in given:
        check_device(str(given["device"]))
    options = {name: value for name, value in given.items() if value}
    _check_image_encoder(options)
    if "compile" in options and "offload" in options:
        raise CapabilityError(
            f"{named('compile')} does not apply to networks that are moved between their uses; leave it or "
            f"{named('offload')} out."
        )
    folder = Path(source).expanduser()
    if "transformer" in options and (source == "builtin" or (folder.exists() and not is_transformer_folder(folder))):
        raise CapabilityError(
            f'{named("transformer")} replaces the transformer of a diffusers folder, and "{source}" is none with a '
            "transformer; give such a folder or a hub id as the source."
        )
    if not folder.is_file():
        refuse_files(f'"{source}"', options)
    if source == "builtin" or (folder.is_dir() and not is_transformer_folder(folder)):
        refuse_on_unets(f'"{source}"', options)
    _check_gguf(folder, options)
    if source == "builtin":
        _refuse("The built-in family", options, ("variant",), "it has only one set of weights")
        _refuse("The built-in family", options, ("tokenizer", "prediction"), "it has its own")
    elif is_exemplar_folder(folder):
        _refuse(
            f'"{folder}" is a folder of Paint by Example, which',
            options,
            (*TEXT_ONLY, "compile"),
            "load a text model with them, and this folder as its exemplar model: "
            + spelled("load(..., exemplar=FOLDER)", "--exemplar-model FOLDER"),
        )
    elif is_transformer_folder(folder):
        refuse_on_transformers(f'"{folder}" is a folder of a diffusion transformer, which', options)
        _refuse(f'The folder "{folder}"', options, ("tokenizer",), "its own one is used; replace the files in it")
    elif folder.is_dir():
        _refuse(f'The folder "{folder}"', options, ("tokenizer",), "its own one is used; replace the files in it")
    elif folder.is_file():
        _refuse(f'The single file "{folder}"', options, ("variant",), "it has only one set of weights")
    if folder.is_dir() and source != "builtin":
        _check_prediction(folder, options.get("prediction"))


def refuse_on_transformers(subject: str, options: Mapping[str, Any]) -> None:
    """Raise CapabilityError for options that no diffusion transformer takes. subject: the model, and "which"."""
    options = {name: value for name, value in options.items() if value}
    taken = ("lora", "regional_lora", "tokenizer", "adapters", "segmenter")
    others = [option for option in (*TEXT_ONLY, "prediction") if option not in taken]
    _refuse(subject, options, others, "these add-ons are of Stable Diffusion; leave it out")


def refuse_on_unets(subject: str, options: Mapping[str, Any]) -> None:
    """Raise CapabilityError for options that only a diffusion transformer takes. subject: the model."""
    refuse_files(subject, options)
    if options.get("offload") == "group":
        raise CapabilityError(
            f"{subject} takes no group offload, which is of diffusion transformers; give "
            f"{spelled('offload=True', '--offload')}."
        )


def refuse_files(subject: str, options: Mapping[str, Any]) -> None:
    """Raise CapabilityError for files of parts. subject: a model that has its own."""
    _refuse(subject, {name: value for name, value in options.items() if value}, OF_FILES, _OF_FILES_ALONE)


_OF_FILES_ALONE = "they belong to a single file with a diffusion transformer, given as the model"


def _check_gguf(file: Path, options: Mapping[str, Any]) -> None:
    """Raise CheckpointError for a GGUF file, which holds a transformer alone, without files of the rest."""
    if file.suffix == ".gguf" and file.is_file() and not ("text_encoders" in options and "vae" in options):
        apart = spelled(
            "load(FILE, text_encoders=[FILE, ...], vae=FILE, tokenizer=FOLDER)",
            "--model FILE --text-encoder FILE --vae FILE --tokenizer FOLDER",
        )
        whole = spelled("load(FOLDER, transformer=FILE)", "--model FOLDER --transformer FILE")
        raise CheckpointError(
            f'"{file}" is a GGUF file, which holds a transformer alone; load it with files of the rest, {apart}, or '
            f"with a diffusers folder or hub id that has the rest: {whole}."
        )


def _refuse(subject: str, options: Mapping[str, Any], refused: Iterable[str], advice: str) -> None:
    for option in refused:
        if option in options:
            raise CapabilityError(f"{subject} takes no {NOUNS.get(option, option)}; {advice}.")


def _check_image_encoder(options: Mapping[str, Any]) -> None:
    exemplar = options.get("exemplar")
    if "image_encoder" in options and (exemplar is None or not is_ip_adapter(Path(exemplar).expanduser())):
        raise CapabilityError(
            f"{named('image_encoder')} belongs to an IP-Adapter, and none is given; give its .safetensors file as "
            f"{named('exemplar')}, or leave the image encoder out."
        )


def _check_prediction(folder: Path, prediction: str | None) -> None:
    file = folder / "scheduler" / "scheduler_config.json"
    if prediction is None or not file.is_file():
        return
    own = read_json(file).get("prediction_type", "epsilon")
    if own != prediction:
        raise CapabilityError(
            f'{named("prediction")} is "{prediction}", but the folder "{folder}" declares "{own}" in '
            "scheduler/scheduler_config.json, which applies; correct prediction_type there, or leave the option out."
        )


def named(option: str) -> str:
    """An option of ``load`` as an argument of the interface in use."""
    return spelled(f"{option}=", _flag(option))


def label(option: str) -> str:
    """The name of an option of ``load`` in the interface in use."""
    return spelled(option, _flag(option))


def _flag(option: str) -> str:
    """The command line's name of an option."""
    other = {
        "embeddings": "embedding",
        "text_encoders": "text-encoder",
        "exemplar": "exemplar-model",
        "adapters": "adapter",
        "source": "model",
    }
    return f"--{other.get(option, option).replace('_', '-')}"


def check_paths(source: str, given: Mapping[str, Any]) -> None:
    """Raise CheckpointError or CapabilityError for a source or an add-on that is not there. Reads no file.

    given: options of a ``ModelSpec`` by name.
    """
    check_source(source)
    adapters = given.get("adapters", {})
    check_kinds(adapters)
    paths: dict[str, Iterable[str]] = {
        "LoRA": [*(file for file, _ in given.get("lora", ())), *given.get("regional_lora", {}).values()],
        "embedding": given.get("embeddings", ()),
        "text encoder": given.get("text_encoders", ()),
        "adapter": adapters.values(),
    }
    for name in ("exemplar", "image_encoder", "fuser", "segmenter", "tokenizer", "transformer", "vae"):
        paths[NOUNS.get(name, name)] = [given[name]] if name in given else []
    for noun, files in paths.items():
        for path in files:
            check_path(path, noun)
