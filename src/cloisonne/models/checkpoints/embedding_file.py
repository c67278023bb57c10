"""Embedding files (textual inversion) of every tool: words and their vectors, added to text encoders."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.parts import Parts, TextPart
from cloisonne.models.checkpoints.pickles import PICKLES, read_pickle
from cloisonne.models.checkpoints.tensor_file import TensorFile, listed

UNNAMED = ("emb_params", "*", "string_to_param.*")
"""Names of the one tensor of a file that does not name its word."""
HALVES = {
    **dict.fromkeys(("clip_l", "text_encoders_0"), 0),
    **dict.fromkeys(("clip_g", "text_encoders_1"), 1),
}
"""Names of the two tensors that a word of Stable Diffusion XL has, by their text encoders."""
HALF_NAMES = ("clip_l", "clip_g")


def add_embeddings(parts: Parts, files: Sequence[Path]) -> Parts:
    """The parts with the learned words of these files, which prompts may then use.

    A word is called as its file names it, else by the file's own name; a word of several vectors is written as one.
    Raises CheckpointError, in one sentence, for a file that is none, does not fit, or whose word is there already.
    """
    for file in files:
        opened = _opened(file)
        words = _words(opened, parts, file.stem)
        parts = replace(parts, warnings=(*parts.warnings, *opened.settle("embedding")))
        for word, vectors in words.items():
            parts = _added(parts, word, vectors, file)
    return parts


def add_bundled(parts: Parts, file: Path, bundled: Mapping[str, Mapping[str, Tensor]]) -> Parts:
    """The parts with the learned words in a LoRA's file. bundled: by word, its tensors by their names in it.

    Raises CheckpointError as :func:`add_embeddings` does.
    """
    for word, tensors in bundled.items():
        if unknown := [name for name in tensors if name not in (*UNNAMED, *HALVES)]:
            raise CheckpointError(
                f'"{file}" bundles the learned word "{word}" with {listed(unknown)}, which is not known; load the '
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
    """[N, D] for each text encoder, by word. unnamed: the word of tensors that name none."""
    file = opened.source
    halves = {HALVES[name]: name for name in opened.keys if name in HALVES}
    if len(parts.texts) == 1:
        if len(halves) > 1:
            names = listed(halves[number] for number in sorted(halves))
            raise _unfit(file, parts, f"it has vectors for two text encoders, {names}")
        own = {unnamed if name in (*UNNAMED, *HALVES) else name: (_vectors(opened, name),) for name in opened.keys}
    elif halves:
        if missing := [number for number in (0, 1) if number not in halves]:
            raise _lacking(file, parts, missing[0])
        own = {unnamed: tuple(_vectors(opened, halves[number]) for number in (0, 1))}
    else:
        widths = [_width(text) for text in parts.texts]
        first = _vectors(opened, opened.keys[0]).shape[-1] if opened.keys else 0
        if first in widths:
            raise _lacking(file, parts, 1 - widths.index(first))
        raise _unfit(file, parts, f"its vectors have {first} numbers, and words {' and '.join(map(str, widths))}")
    for vectors in own.values():
        for one, text in zip(vectors, parts.texts, strict=True):
            if one.shape[1] != _width(text):
                raise _unfit(file, parts, f"its vectors have {one.shape[1]} numbers, and words {_width(text)}")
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
    """Of Stable Diffusion XL, one text encoder's vectors are not there."""
    place, width = ("first", "second")[number], _width(parts.texts[number])
    return CheckpointError(
        f'The embedding "{file}" does not fit the model, which is of the line {parts.family}: it lacks the half of the '
        f"{place} text encoder, {HALF_NAMES[number]} of vectors of {width} numbers; load a file with both halves."
    )


def _unfit(file: Any, parts: Parts, why: str) -> CheckpointError:
    return CheckpointError(
        f'The embedding "{file}" does not fit the model, which is of the line {parts.family} ({why}); load one that '
        "was made for it."
    )


def _width(text: TextPart) -> int:
    module: Any = text.module
    return int(module.get_input_embeddings().weight.shape[1])


def _added(parts: Parts, word: str, vectors: tuple[Tensor, ...], file: Path) -> Parts:
    """The parts with one more word; the rows of its vectors come behind those of the tokenizer's words."""
    if not word.strip():
        raise CheckpointError(f'"{file}" names a word of no letters; rename the word in it.')
    if len({len(one) for one in vectors}) > 1:
        counts = " and ".join(str(len(one)) for one in vectors)
        raise CheckpointError(f'"{file}" has {counts} vectors for its two text encoders; load another file.')
    known = {name.casefold() for name in parts.texts[0].learned} | {
        token.casefold() for token in parts.texts[0].tokenizer.added_tokens_encoder
    }
    if word.casefold() in known:
        raise CheckpointError(f'The word "{word}" of "{file}" is there already; rename one of the two files.')
    return replace(parts, texts=tuple(_text(t, word, one) for t, one in zip(parts.texts, vectors, strict=True)))


@torch.no_grad()
def _text(text: TextPart, word: str, vectors: Tensor) -> TextPart:
    module: Any = text.module
    tokenizer: Any = text.tokenizer
    # No text holds these: the learned words of a text are found before it is tokenized.
    tokens = [f"<|{word}|{k}|>" for k in range(len(vectors))]
    tokenizer.add_tokens(tokens)
    ids: Mapping[str, int] = tokenizer.get_vocab()
    rows = tuple(ids[token] for token in tokens)
    if max(rows) >= len(module.get_input_embeddings().weight):
        module.resize_token_embeddings(max(rows) + 1, mean_resizing=False)
    table = module.get_input_embeddings().weight
    table[list(rows)] = vectors.to(table)
    return replace(text, learned={**text.learned, word: rows})
