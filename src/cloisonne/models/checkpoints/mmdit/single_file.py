"""Read a diffusion transformer in one file, as ComfyUI loads it: whole with text encoders and autoencoder, or the
transformer alone next to files of these. Tokenizers are of a folder.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from cloisonne.errors import CheckpointError, spelled
from cloisonne.models.checkpoints.files import read
from cloisonne.models.checkpoints.mmdit.flux import SCHNELL_LENGTH
from cloisonne.models.checkpoints.mmdit.members import read_qwen_tokenizer, read_t5_tokenizer
from cloisonne.models.checkpoints.mmdit.shapes import NETWORKS, converted
from cloisonne.models.checkpoints.mmdit.stored_file import StoredFile, names_in
from cloisonne.models.checkpoints.mmdit.text_files import (
    WITHIN,
    Kind,
    TextTensors,
    clip_encoder,
    qwen3_encoder,
    t5_encoder,
    text_of,
    texts_within,
)
from cloisonne.models.checkpoints.mmdit.transformer_file import PREFIXES, UNUSED, with_stored
from cloisonne.models.checkpoints.mmdit.usual import named, usual_of
from cloisonne.models.checkpoints.mmdit.vae_files import read_vae
from cloisonne.models.checkpoints.parts import Parts, TextPart
from cloisonne.models.families import FAMILIES
from cloisonne.models.quantized.layers import Stored
from cloisonne.models.text import qwen
from cloisonne.models.vae import Autoencoder

VAES = ("first_stage_model.", "vae.")
FLUX2, GUIDANCE = "double_stream_modulation_img.lin.weight", "guidance_in.in_layer.weight"
"""FLUX.2 dev has both."""
MARKS = {
    FLUX2: "flux2",
    "double_blocks.0.img_mod.lin.weight": "flux",
    "joint_blocks.0.x_block.attn.qkv.weight": "sd3",
    "cap_pad_token": "zimage",
}
"""A tensor of each family's transformer."""
OTHERS = {
    "distilled_guidance_layer.norms.0.scale": "Chroma",
    "transformer_blocks.0.img_mod.1.weight": "Qwen-Image",
    "cap_embedder.1.weight": "Lumina 2",
    "double_layers.0.attn.w1q.weight": "AuraFlow",
}
"""The same of models that are not supported."""
OF_DIFFUSERS = ("transformer_blocks.0.attn.to_q.weight", "all_x_embedder.2-1.weight")
"""Tensors by the names of diffusers, which do not determine a configuration."""
TEXTS: dict[str, tuple[Kind, ...]] = {
    "flux": ("CLIP", "T5"),
    "kontext": ("CLIP", "T5"),
    "sd3": ("CLIP", "CLIP", "T5"),
    "flux2": ("Qwen3",),
    "zimage": ("Qwen3",),
}
"""The text encoders in the order of the pipeline's members; T5 of Stable Diffusion 3 may be missing."""
LAYERS = {"flux2": qwen.FLUX2.layers, "zimage": qwen.ZIMAGE.layers}
"""The hidden states that are read of Qwen3."""


@dataclass(frozen=True, kw_only=True)
class TransformerFiles:
    """A file with a transformer, and files of what it lacks.

    text_encoders: in place of those of the same kind in the file. vae: in place of the file's own. tokenizer: a
    pipeline folder, or one with its members tokenizer, tokenizer_2 and so on; of Qwen3 also the tokenizer's own.
    """

    source: Path
    text_encoders: tuple[Path, ...] = ()
    vae: Path | None = None
    tokenizer: Path | None = None


def is_transformer_file(file: Path) -> bool:
    """Whether a file holds a diffusion transformer, also an unsupported one; of safetensors the header is read."""
    if file.suffix == ".gguf":
        return True
    names = _bare(names_in(file))
    return bool(names & {*MARKS, *OTHERS, *OF_DIFFUSERS})


def _bare(names: Iterable[str]) -> set[str]:
    """The names without the transformer's prefixes."""
    return {name.removeprefix(next((own for own in PREFIXES if name.startswith(own)), "")) for name in names}


def read_transformer_files(files: TransformerFiles, dtype: torch.dtype) -> Parts:
    """The parts of the files. Raises CheckpointError where one is missing, damaged or of another model."""
    file = StoredFile(files.source)
    family = _family(file)
    given = [(own := StoredFile(path), text_of(own)) for path in files.text_encoders]
    texts = _chosen(family, texts_within(file), [text for _, text in given])
    vae_file, prefix = _vae_source(file, files.vae)
    _check_whole(family, file, texts, has_vae=vae_file is not None)
    assert vae_file is not None, "it is checked"
    words = [text and _tokenizer(files.tokenizer, i, alone=len(texts) == 1) for i, text in enumerate(texts)]
    network = _network(family, file, dtype)
    vae = _vae(family, vae_file, prefix, dtype)
    usual = usual_of(family, network.config, file.titles)
    most = None if family == "sd3" or network.config.get("guidance_embeds") else SCHNELL_LENGTH
    parts = tuple(_texts(family, texts, words, dtype, most))
    warnings = [*file.settle("checkpoint")]
    warnings += [sentence for own, _ in given for sentence in own.settle("text encoder")]
    warnings += vae_file.settle("autoencoder") if vae_file is not file else ()
    return Parts(
        family=family,
        network=network,
        vae=vae,
        texts=parts,
        text_options={"width": int(network.config["joint_attention_dim"])} if family == "sd3" else {},
        scheduler=usual.scheduler,
        native=usual.native,
        files=tuple(dict.fromkeys((files.source, *files.text_encoders, vae_file.source))),
        notes=usual.notes,
        warnings=tuple(warnings),
    )


def _family(file: StoredFile) -> str:
    """The family of a file's transformer; Kontext, whose tensors are those of FLUX.1 dev, by the file's names."""
    names = _bare(file.tensors)
    other = next((title for mark, title in OTHERS.items() if mark in names and not names & {*MARKS}), None)
    if {FLUX2, GUIDANCE} <= names:
        other = "FLUX.2 dev"
    if other is not None:
        titles = dict.fromkeys(FAMILIES[name].title for name in NETWORKS)
        raise CheckpointError(
            f'"{file.source}" is of {other}, which is not supported; load a transformer of {", ".join(titles)}.'
        )
    family = next((family for mark, family in MARKS.items() if mark in names), None)
    if family is None:
        what = "holds a transformer by the names of diffusers" if names & {*OF_DIFFUSERS} else "holds no transformer"
        raise CheckpointError(
            f'"{file.source}" {what}, and its configuration is not known; load it with a diffusers folder of its '
            f"model: {_with_folder()}."
        )
    return "kontext" if family == "flux" and named(file.titles, "kontext") else family


def _with_folder() -> str:
    return spelled("load(FOLDER, transformer=FILE)", "--model FOLDER --transformer FILE")


def _network(family: str, file: StoredFile, dtype: torch.dtype) -> Any:
    """The transformer of tensors by their original names."""
    prefix = next((own for own in PREFIXES if file.under(own)), "")
    alone = not prefix and not file.under(WITHIN, *VAES)
    tensors = file.take(prefix)
    if not alone:
        tensors = {name: own for name, own in tensors.items() if not name.startswith((WITHIN, *VAES))}
    tensors = {name: own for name, own in tensors.items() if name not in UNUSED}
    reader = NETWORKS[family]
    try:
        config = reader.config(tensors)
    except KeyError as error:
        raise CheckpointError(f'"{file.source}" lacks the tensor {error}; download it again.') from error
    with torch.device("meta"):
        network = reader.kind(**config)
    return with_stored(network, converted(family, tensors, network), file.source, dtype)


def _chosen(family: str, own: Sequence[TextTensors], given: Sequence[TextTensors]) -> tuple[TextTensors | None, ...]:
    """The text encoder of each place, None where there is none. Of two CLIPs the narrower is the first.

    Raises CheckpointError for a given one that the family does not have.
    """
    places = TEXTS[family]
    for text in given:
        if text.kind not in places or sum(other.kind == text.kind for other in given) > places.count(text.kind):
            raise CheckpointError(
                f'"{text.source}" holds a text encoder {text.kind}, and {FAMILIES[family].title} takes '
                f"{' and '.join(places)}; leave it out."
            )
    found: list[TextTensors | None] = []
    for kind in dict.fromkeys(places):
        some = [text for text in given if text.kind == kind] or [text for text in own if text.kind == kind]
        some = sorted(some, key=lambda text: text.width)[: places.count(kind)]
        found += [*some, *[None] * (places.count(kind) - len(some))]
    return tuple(found)


def _check_whole(family: str, file: StoredFile, texts: Sequence[TextTensors | None], *, has_vae: bool) -> None:
    missing = [
        f"text encoder {kind}"
        for kind, text in zip(TEXTS[family], texts, strict=True)
        if text is None and not (family == "sd3" and kind == "T5")
    ]
    missing += [] if has_vae else ["autoencoder"]
    if missing:
        apart = spelled(
            "load(FILE, text_encoders=[FILE, ...], vae=FILE, tokenizer=FOLDER)",
            "--model FILE --text-encoder FILE --vae FILE --tokenizer FOLDER",
        )
        raise CheckpointError(
            f'"{file.source}" is no whole checkpoint of {FAMILIES[family].title}: it has no '
            f"{' and no '.join(missing)}; give files of them, {apart}, or a diffusers folder with its transformer: "
            f"{_with_folder()}."
        )


def _vae_source(file: StoredFile, given: Path | None) -> tuple[StoredFile | None, str]:
    """The file of the autoencoder, and the prefix of its tensors there."""
    apart = file if given is None else StoredFile(given)
    prefix = next((own for own in VAES if apart.under(own)), None)
    if given is not None:
        if prefix is None or not file.under(*VAES):
            return apart, prefix or ""
        file.skip(lambda name: name.startswith(VAES), "replaced by the given one")
        return apart, prefix
    return (None, "") if prefix is None else (file, prefix)


def _vae(family: str, file: StoredFile, prefix: str, dtype: torch.dtype) -> Autoencoder:
    tensors = {name: _plain(tensor, dtype) for name, tensor in file.take(prefix).items()}
    return read_vae(tensors, family, file.source, prefix)


def _plain(tensor: Tensor | Stored, dtype: torch.dtype) -> Tensor:
    if isinstance(tensor, Stored):
        return tensor.numbers(dtype)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _texts(
    family: str,
    texts: Sequence[TextTensors | None],
    words: Sequence[Path | None],
    dtype: torch.dtype,
    most: int | None,
) -> Iterable[TextPart]:
    """words: the folder of each one's tokenizer. most: of T5's tokens; None leaves its tokenizer as it is."""
    for number, (text, member) in enumerate(zip(texts, words, strict=True)):
        if text is None or member is None:
            continue
        if text.kind == "T5":
            yield TextPart(t5_encoder(text, dtype), read_t5_tokenizer(member, most))
        elif text.kind == "Qwen3":
            yield TextPart(qwen3_encoder(text, dtype, LAYERS[family]), read_qwen_tokenizer(member))
        else:
            tokenizer = read(member, CLIPTokenizer.from_pretrained)
            projected = family == "sd3"
            yield TextPart(clip_encoder(text, tokenizer, dtype, second=number > 0, projected=projected), tokenizer)


def _tokenizer(folder: Path | None, number: int, *, alone: bool) -> Path:
    """The folder of a tokenizer. alone: the model has only one, so that the folder itself may be it."""
    member = f"tokenizer{'' if number == 0 else f'_{number + 1}'}"
    if folder is not None and (folder / member).is_dir():
        return folder / member
    if folder is not None and alone and (folder / "tokenizer.json").is_file():
        return folder
    given = f'"{folder}" has none of the name {member}' if folder is not None else "none is given"
    raise CheckpointError(
        f"A single file holds no tokenizers, and {given}; give a folder with them, such as a diffusers folder of the "
        f"model: {spelled('load(..., tokenizer=FOLDER)', '--tokenizer FOLDER')}."
    )
