"""Every option of ``load`` with every kind of source: it changes what is loaded, or is refused by its name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import T2IAdapter
from ldm_files import parts, tensors_of
from lora_files import kohya_file, lora_weights
from safetensors.torch import save_file
from tiny import tiny_tokenizer, write_checkpoint, write_exemplar, write_xl

from cloisonne.errors import CapabilityError, CloisonneError
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.models.options import LoadOptions

SOURCES = ("builtin", "folder", "xl", "file", "paint by example")
OPTIONS = tuple(LoadOptions.__annotations__)

NOUNS = {
    "lora": "LoRAs",
    "regional_lora": "LoRAs",
    "exemplar": "exemplar model",
    "image_encoder": "image encoder|image_encoder",
    "offload": "offload",
    "text_encoders": "files of text encoders",
    "vae": "file of an autoencoder",
}
OF_FILES = ("transformer", "text_encoders", "vae")
REFUSED: dict[str, set[str]] = {
    "builtin": {"image_encoder", "fuser", "tokenizer", "prediction", "variant", *OF_FILES},
    "folder": {"image_encoder", "fuser", "tokenizer", "prediction", *OF_FILES},
    "xl": {"image_encoder", "fuser", "tokenizer", "prediction", *OF_FILES},
    "file": {"image_encoder", "fuser", "variant", *OF_FILES},
    "paint by example": {
        *("lora", "regional_lora", "embeddings", "exemplar", "image_encoder", "adapters", "fuser", "segmenter"),
        *("tokenizer", "prediction", "compile", *OF_FILES),
    },
}
"""By source. An option that must be given with another one is here given without it."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sources")
    write_checkpoint(root / "folder")
    write_xl(root / "xl")
    write_exemplar(root / "paint by example")
    save_file(tensors_of(parts("sd1"), "sd1"), root / "file.safetensors", metadata={"format": "pt"})
    tiny_tokenizer(0).save_pretrained(root / "words")
    tiny_tokenizer(0).save_pretrained(root / "other words")
    for name in ("folder", "xl", "paint by example"):
        for file in (root / name).glob("*/*.safetensors"):
            file.with_suffix(".fp16.safetensors").write_bytes(file.read_bytes())
    return root


def place(source: str, root: Path) -> str | Path:
    return {"builtin": "builtin", "file": root / "file.safetensors"}.get(source, root / source)


def needed(source: str, root: Path) -> dict[str, Any]:
    return {"tokenizer": root / "words"} if source == "file" else {}


def loras(source: str, root: Path, tmp_path: Path) -> Path:
    file = tmp_path / "lora.safetensors"
    if source == "file":
        made = {"lora_unet_mid_block_attentions_0_proj_in": (64, 64, 1, 1)}
        down, up = (torch.ones(2, 64, 1, 1), torch.ones(64, 2, 1, 1))
        name = next(iter(made))
        save_file({f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}, file)
        return file
    folder = {"builtin": BUILTIN, "xl": root / "xl"}.get(source, root / "folder")
    return kohya_file(file, lora_weights(folder, text=False), 2.0)


def embedding(source: str, root: Path, tmp_path: Path) -> Path:
    file = tmp_path / "ink.safetensors"
    if source == "xl":
        save_file({"clip_l": torch.ones(1, 16), "clip_g": torch.ones(1, 24)}, file)
        return file
    width = {"builtin": load_width(BUILTIN), "file": 64}.get(source, 16)
    save_file({"emb_params": torch.ones(1, width)}, file)
    return file


def load_width(folder: Path) -> int:
    return json.loads((folder / "text_encoder/config.json").read_text())["hidden_size"]


def adapter(source: str, root: Path, tmp_path: Path) -> dict[str, Path]:
    folder = {"builtin": BUILTIN, "xl": root / "xl"}.get(source, root / "folder")
    config = json.loads((folder / "unet/config.json").read_text())
    widths = [32, 64, 64, 64] if source == "file" else config["block_out_channels"]
    kind = "full_adapter" if source == "file" else "full_adapter_xl"
    module = T2IAdapter(1, widths, num_res_blocks=1, downscale_factor=8 if source == "file" else 16, adapter_type=kind)
    module.save_pretrained(tmp_path / "adapter")
    return {"sobel": tmp_path / "adapter"}


def segmenter(tmp_path: Path) -> Path:
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

    shape = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    config = CLIPSegConfig(text_config=shape | {"vocab_size": 600}, vision_config=shape, extract_layers=[0, 1])
    CLIPSegForImageSegmentation(config).save_pretrained(tmp_path / "segmenter")
    return tmp_path / "segmenter"


def value(option: str, source: str, root: Path, tmp_path: Path) -> Any:
    """A value that is not the default, and that fits a source which takes the option."""
    painter = root / "paint by example"
    return {
        "device": lambda: "cpu:0",
        "dtype": lambda: torch.bfloat16,
        "lora": lambda: loras(source, root, tmp_path),
        "regional_lora": lambda: {"ink": loras(source, root, tmp_path)},
        "embeddings": lambda: embedding(source, root, tmp_path),
        "exemplar": lambda: painter,
        "image_encoder": lambda: painter / "image_encoder",
        "adapters": lambda: adapter(source, root, tmp_path),
        "fuser": lambda: tmp_path / "fuser.safetensors",
        "segmenter": lambda: segmenter(tmp_path),
        **dict.fromkeys(("transformer", "text_encoders", "vae"), lambda: root / "file.safetensors"),
        "tokenizer": lambda: root / "other words",
        "prediction": lambda: "epsilon" if source == "builtin" else "v_prediction",
        "variant": lambda: "fp16",
        "offload": lambda: True,
        "compile": lambda: "default",
        "vae_tiling": lambda: True,
        "vae_slicing": lambda: True,
        "mask_resampling": lambda: "nearest",
    }[option]()


def facts(model: Model) -> tuple[Any, ...]:
    """Values that differ between two models that generate differently or on another device."""
    vae: Any = model.vae.module
    text: Any = model.text
    exemplar, words = model.exemplar, None if model.image_only else text.tokenizer
    return (
        *(model.hash, model.device, model.dtype, model.schedule.prediction, model.options, len(model.net.loras)),
        *(model.compile, vae.use_tiling, vae.use_slicing, hasattr(model.net.unet, "_hf_hook"), set(model.adapters)),
        *(exemplar and exemplar.mask_resampling, exemplar and exemplar.net.unet.config["in_channels"]),
        *(model.segmenter, words and words.name_or_path),
    )


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_is_honoured_or_refused_by_name(option: str, source: str, folders: Path, tmp_path: Path) -> None:
    where, with_it = place(source, folders), needed(source, folders)
    given = {**with_it, option: value(option, source, folders, tmp_path)}
    if option == "fuser":
        save_file({"task_embedding": torch.zeros(16, 8)}, given[option])
    found, refusal = loaded(where, given)
    if found is None:
        words = (option, f"--{option}", *NOUNS.get(option, option).split("|"))
        paths = [str(part) for part in (given[option], *getattr(given[option], "values", list)())]
        assert any(word in refusal for word in (*words, *paths)), refusal
        assert option in REFUSED[source] or has_no_fitting_value(option, source), refusal
    else:
        assert option not in REFUSED[source]
        assert facts(found) != facts(load(where, **with_it)) or option == "variant", "ignored"


def loaded(source: str | Path, given: dict[str, Any]) -> tuple[Model | None, str]:
    try:
        return load(source, **given), ""
    except CloisonneError as error:
        return None, str(error)


def has_no_fitting_value(option: str, source: str) -> bool:
    """Where no value fits: Paint by Example with another latent space, and masks of exemplars without its network."""
    fills = source in ("builtin", "paint by example")
    return (option == "exemplar" and source in ("builtin", "file")) or (option == "mask_resampling" and not fills)


def test_options_that_agree_with_the_source_are_taken(folders: Path) -> None:
    assert load(folders / "folder", prediction="epsilon").schedule.prediction == "epsilon"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tokenizer": "x"}, "takes no tokenizer"),
        ({"prediction": "v_prediction"}, 'declares "epsilon" in scheduler/scheduler_config.json'),
        ({"image_encoder": "x"}, "belongs to an IP-Adapter"),
        ({"image_encoder": "x", "exemplar": "folder"}, "belongs to an IP-Adapter"),
    ],
)
def test_a_refusal_says_what_to_do(options: dict[str, Any], words: str, folders: Path) -> None:
    with pytest.raises(CapabilityError, match=words):
        load(folders / "folder", **options)


@pytest.mark.parametrize("source", SOURCES)
def test_group_offload_is_of_transformers(source: str, folders: Path) -> None:
    with pytest.raises(CapabilityError, match="takes no group offload"):
        load(place(source, folders), **needed(source, folders), offload="group")
