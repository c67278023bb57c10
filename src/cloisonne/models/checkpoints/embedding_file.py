"""Embedding files (textual inversion) of common tools: learned words and their vectors, added to text encoders."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.parts import Parts, TextPart
from cloisonne.models.checkpoints.pickles import PICKLES, read_pickle
from cloisonne.models.checkpoints.tensor_file import TensorFile, listed

UNNAMED = ("emb_params", "*", "string_to_param.*")
"""Names of the single tensor in a file that does not name its word."""
ENCODER_OF = {
    **dict.fromkeys(("clip_l", "text_encoders_0"), 0),
    **dict.fromkeys(("clip_g", "text_encoders_1"), 1),
}
"""The index of the text encoder, by the names of the two tensors of a word for Stable Diffusion XL."""
ENCODER_NAMES = ("clip_l", "clip_g")


def add_embeddings(parts: Parts, files: Sequence[Path]) -> Parts:
    """Add the learned words of these files, which prompts may then use.

    A word has the name in its file, or else the file's name; a word of several vectors is written once in a prompt.
    Raises CheckpointError for a file that is no embedding, does not fit, or whose word already exists.
    """
    for file in files:
        opened = _opened(file)
        words = _words(opened, parts, file.stem)
        parts = replace(parts, warnings=(*parts.warnings, *opened.settle("embedding")))
        for word, vectors in words.items():
            parts = _added(parts, word, vectors, file)
    return parts


def add_bundled(parts: Parts, file: Path, bundled: Mapping[str, Mapping[str, Tensor]]) -> Parts:
    """Add the learned words of a LoRA file. bundled: by word, its tensors by their names in the file.

    Raises CheckpointError as :func:`add_embeddings` does.
    """
    for word, tensors in bundled.items():
        if unknown := [name for name in tensors if name not in (*UNNAMED, *ENCODER_OF)]:
            raise CheckpointError(
                f'"{file}" bundles the learned word "{word}" with {listed(unknown)}, which is not supported; load the '
                "LoRA without it."
            )
        for name, vectors in _words(TensorFile(file, tensors), parts, word).items():
            parts = _added(parts, name, vectors, file)
    return parts


def _opened(file: Path) -> TensorFile:
    if not file.is_file():
        raise CheckpointError(f'There is no embedding "{file}"; check its path.')
    if file.suffix in PICKLES:
        return TensorFile(file, read_pickle(file))
    if file.suffix != ".safetensors":
        raise CheckpointError(f'The embedding "{file}" is no .safetensors or .pt file; give one of these.')
    return TensorFile.open(file)


def _words(opened: TensorFile, parts: Parts, unnamed: str) -> dict[str, tuple[Tensor, ...]]:
    """Vectors [N, D] for each text encoder, by word. unnamed: the word of tensors that name none."""
    file = opened.source
    tensors = {ENCODER_OF[name]: name for name in opened.keys if name in ENCODER_OF}
    if len(parts.texts) == 1:
        if len(tensors) > 1:
            names = listed(tensors[number] for number in sorted(tensors))
            raise _unfit(file, parts, f"it has vectors for two text encoders, {names}")
        own = {unnamed if name in (*UNNAMED, *ENCODER_OF) else name: (_vectors(opened, name),) for name in opened.keys}
    elif tensors:
        if missing := [number for number in (0, 1) if number not in tensors]:
            raise _lacking(file, parts, missing[0])
        own = {unnamed: tuple(_vectors(opened, tensors[number]) for number in (0, 1))}
    else:
        widths = [_width(text) for text in parts.texts]
        first = _vectors(opened, opened.keys[0]).shape[-1] if opened.keys else 0
        if first in widths:
            raise _lacking(file, parts, 1 - widths.index(first))
        wanted = " and ".join(map(str, widths))
        raise _unfit(file, parts, f"its vectors have {first} numbers, and the model's embeddings {wanted}")
    for vectors in own.values():
        for one, text in zip(vectors, parts.texts, strict=True):
            if one.shape[1] != _width(text):
                raise _unfit(
                    file, parts, f"its vectors have {one.shape[1]} numbers, and the model's embeddings {_width(text)}"
                )
    return own


def _vectors(opened: TensorFile, name: str) -> Tensor:
    tensor = opened.take(name)
    if tensor.ndim not in (1, 2, 3) or not tensor.is_floating_point() or not tensor.numel():
        raise CheckpointError(
            f'"{opened.source}" is no embedding: its "{name}" of {list(tensor.shape)} holds no vectors; load another '
            "file."
        )
    return tensor.reshape(-1, tensor.shape[-1])


def _lacking(file: Any, parts: Parts, number: int) -> CheckpointError:
    """The error for a file without the vectors of one of Stable Diffusion XL's text encoders."""
    ordinal, width = ("first", "second")[number], _width(parts.texts[number])
    return CheckpointError(
        f'The embedding "{file}" does not fit the model, which is of the family {parts.family}: it lacks the vectors '
        f"of the {ordinal} text encoder, {ENCODER_NAMES[number]} of {width} numbers each; load a file with both."
    )


def _unfit(file: Any, parts: Parts, why: str) -> CheckpointError:
    return CheckpointError(
        f'The embedding "{file}" does not fit the model, which is of the family {parts.family} ({why}); load one made '
        "for this family."
    )


def _width(text: TextPart) -> int:
    module: Any = text.module
    return int(module.get_input_embeddings().weight.shape[1])


def _added(parts: Parts, word: str, vectors: tuple[Tensor, ...], file: Path) -> Parts:
    """Add one word; its vectors are appended to the token embeddings."""
    if not word.strip():
        raise CheckpointError(f'"{file}" names an empty word; rename the word in it.')
    if len({len(one) for one in vectors}) > 1:
        counts = " and ".join(str(len(one)) for one in vectors)
        raise CheckpointError(f'"{file}" has {counts} vectors for its two text encoders; load another file.')
    known = {name.casefold() for name in parts.texts[0].learned} | {
        token.casefold() for token in parts.texts[0].tokenizer.added_tokens_encoder
    }
    if word.casefold() in known:
        raise CheckpointError(f'The word "{word}" of "{file}" exists already; rename one of the two files.')
    return replace(parts, texts=tuple(_text(t, word, one) for t, one in zip(parts.texts, vectors, strict=True)))


@torch.no_grad()
def _text(text: TextPart, word: str, vectors: Tensor) -> TextPart:
    module: Any = text.module
    tokenizer: Any = text.tokenizer
    # These tokens match no prompt: learned words are found before a text is tokenized.
    tokens = [f"<|{word}|{k}|>" for k in range(len(vectors))]
    tokenizer.add_tokens(tokens)
    ids: Mapping[str, int] = tokenizer.get_vocab()
    rows = tuple(ids[token] for token in tokens)
    # Copies of the text encoder share the parameter, which resizing writes into.
    embedding = module.get_input_embeddings()
    embedding.weight = nn.Parameter(embedding.weight.clone(), requires_grad=False)
    if max(rows) >= len(module.get_input_embeddings().weight):
        module.resize_token_embeddings(max(rows) + 1, mean_resizing=False)
    table = module.get_input_embeddings().weight
    table[list(rows)] = vectors.to(table)
    return replace(text, learned={**text.learned, word: rows})
