"""What is added to a checkpoint: LoRAs, fused into its weights or held beside them, and learned words.

All go through diffusers' own loaders, on a pipeline that lives only as long.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffusers import DDIMScheduler
from torch import Tensor

from cloisonne.errors import CheckpointError, spelled
from cloisonne.models.lora import Lora, LowRank, unmaskable
from cloisonne.models.parts import Parts
from cloisonne.models.single_file import read_tensors


def add_loras(parts: Parts, loras: Sequence[tuple[Path, float]]) -> Parts:
    """The parts with LoRAs (kohya's or PEFT's names) fused into UNet and text encoders, each at its scale.

    Raises CheckpointError, in one sentence, for a file that is none or was made for another line.
    """
    for file, scale in loras:
        tensors = _lora_tensors(file)
        before = _weights(parts)
        with _reading(file, "LoRA", parts):
            pipeline = _pipeline(parts)
            pipeline.load_lora_weights(dict(tensors))
            pipeline.fuse_lora(lora_scale=scale)
            pipeline.unload_lora_weights()
        _forget(parts)
        if scale and not _changed(before, parts):
            raise CheckpointError(f'"{file}" fits no layer of the model; load a LoRA that was made for its line.')
    return parts


def read_lora(parts: Parts, file: Path) -> Lora:
    """What a LoRA (kohya's or PEFT's names) changes of the UNet, to be held beside it; the parts stay what they are.

    Raises CheckpointError as :func:`add_loras` does, and for one that changes layers which belong to no place.
    """
    tensors = _lora_tensors(file)
    with _reading(file, "LoRA", parts):
        pipeline = _pipeline(parts)
        pipeline.load_lora_weights(dict(tensors))
        layers, plain = _low_rank(parts.unet)
        words = any(_low_rank(text.module)[0] for text in parts.texts)
        pipeline.unload_lora_weights()
    _forget(parts)
    if not plain:
        raise CheckpointError(
            f'"{file}" is a LoRA with magnitudes or biases (DoRA), which cannot count by region; fuse it for all of '
            f"the picture: {spelled('load(..., lora=FILE)', '--lora FILE')}."
        )
    if not layers:
        raise CheckpointError(f'"{file}" fits no layer of the UNet; load a LoRA that was made for its line.')
    if (layer := unmaskable(parts.unet, sorted(layers))) is not None:
        raise CheckpointError(
            f'"{file}" changes the layer "{layer}", which acts on all of the picture at once, so that it cannot count '
            f"by region; fuse it: {spelled('load(..., lora=FILE)', '--lora FILE')}."
        )
    return Lora(layers, words)


def _low_rank(module: Any) -> tuple[dict[str, LowRank], bool]:
    """What peft has put on a module's layers, and whether it is no more than that; layers that stay are left out."""
    from peft.tuners.lora import LoraLayer

    found, plain = {}, True
    for name, part in module.named_modules():
        if not isinstance(part, LoraLayer):
            continue
        layer: Any = part
        for key, down in layer.lora_A.items():
            up = layer.lora_B[key]
            plain = plain and not layer.use_dora.get(key) and up.bias is None
            if bool((up.weight != 0).any()):
                found[name] = LowRank(down.weight.detach().clone(), up.weight.detach() * layer.scaling[key])
    return found, plain


def add_embeddings(parts: Parts, files: Sequence[tuple[Path, str | None]]) -> Parts:
    """The parts with learned words (textual inversion), which prompts may then use.

    files: each with the word it is called by; None means the name that the file gives it, else the file's own. One of
    several vectors is written as one word all the same.
    """
    for file, word in files:
        tensors = _safetensors(file, "embedding")
        with _reading(file, "embedding", parts):
            pipeline = _pipeline(parts)
            if {"clip_l", "clip_g"} <= tensors.keys():
                called = word or file.stem
                for part, name in zip(parts.texts, ("clip_l", "clip_g"), strict=True):
                    own = {called: tensors[name]}
                    pipeline.load_textual_inversion(own, called, text_encoder=part.module, tokenizer=part.tokenizer)
            else:
                named = {file.stem if name == "emb_params" else name: tensor for name, tensor in tensors.items()}
                name, tensor = next(iter(named.items()))
                pipeline.load_textual_inversion({word or name: tensor}, word or name)
    return parts


def _lora_tensors(file: Path) -> dict[str, Tensor]:
    tensors = _safetensors(file, "LoRA")
    if not any("lora" in name.lower() for name in tensors):
        raise CheckpointError(f'"{file}" is no LoRA: none of its tensors is named as one; load another file.')
    return tensors


def _safetensors(file: Path, what: str) -> dict[str, Tensor]:
    if not file.is_file():
        raise CheckpointError(f'There is no {what} "{file}"; check its path.')
    if file.suffix != ".safetensors":
        raise CheckpointError(
            f'The {what} "{file}" is no .safetensors file; convert it once: cloisonne convert {file} OUT.safetensors.'
        )
    return read_tensors(file)


@contextmanager
def _reading(file: Path, what: str, parts: Parts) -> Iterator[None]:
    try:
        yield
    # Whatever does not fit surfaces as any of these, over several lines.
    except (ValueError, KeyError, RuntimeError, TypeError, AttributeError, IndexError) as error:
        why = str(error).strip().splitlines()[0].rstrip(".:") if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f'The {what} "{file}" does not fit the model, which is of the line {parts.family} ({why[:200]}); load one '
            "that was made for it."
        ) from error


def _pipeline(parts: Parts) -> Any:
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    first = {"text_encoder": parts.texts[0].module, "tokenizer": parts.texts[0].tokenizer}
    shared: dict[str, Any] = {
        "vae": parts.vae,
        "unet": parts.unet,
        "scheduler": DDIMScheduler(steps_offset=1, clip_sample=False),
        **first,
    }
    if len(parts.texts) > 1:
        second = {"text_encoder_2": parts.texts[1].module, "tokenizer_2": parts.texts[1].tokenizer}
        return StableDiffusionXLPipeline(**shared, **second, add_watermarker=False)
    none: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return StableDiffusionPipeline(**shared, **none)


def _weights(parts: Parts) -> list[tuple[Any, str, Tensor]]:
    """All weights of the parts that LoRAs can change."""
    modules = (parts.unet, *(text.module for text in parts.texts))
    return [(m, n, p.detach().clone()) for m in modules for n, p in m.named_parameters() if n.endswith("weight")]


def _changed(before: list[tuple[Any, str, Tensor]], parts: Parts) -> bool:
    return any(not before_weight.equal(module.get_parameter(name)) for module, name, before_weight in before)


def _forget(parts: Parts) -> None:
    """What peft leaves behind says that adapters are to be saved apart."""
    for module in (parts.unet, *(text.module for text in parts.texts)):
        vars(module).pop("peft_config", None)
        vars(module)["_hf_peft_config_loaded"] = False
