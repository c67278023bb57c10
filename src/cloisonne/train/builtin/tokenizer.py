"""The built-in tokenizer: a byte-level BPE in CLIP's format with position tokens, trained on the world's captions."""

import json
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

from cloisonne.world.words import corpus

BINS = 128
LENGTH = 77
_CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_START, _END = "<|startoftext|>", "<|endoftext|>"


def build(merges: int = 1200) -> CLIPTokenizer:
    """Build a tokenizer of 512 byte symbols, about ``merges`` merges, start, end and ``<bin000>`` ... ``<bin127>``."""
    alphabet = sorted(ByteLevel.alphabet())
    raw = Tokenizer(BPE(end_of_word_suffix="</w>"))
    raw.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])  # type: ignore[assignment]
    raw.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [
            pre_tokenizers.Split(Regex(_CLIP_WORDS), "removed", invert=True),
            ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = BpeTrainer(
        vocab_size=512 + merges, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    raw.train_from_iterator(corpus(), trainer)
    learned = json.loads(raw.to_str())["model"]["merges"]
    learned = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in learned]
    symbols = alphabet + [symbol + "</w>" for symbol in alphabet] + [a + b for a, b in learned] + [_START, _END]
    vocab = {symbol: k for k, symbol in enumerate(dict.fromkeys(symbols))}
    model: dict[str, Any] = {"vocab": vocab, "merges": learned}
    tokenizer = CLIPTokenizer(
        **model,
        bos_token=_START,
        eos_token=_END,
        pad_token=_END,
        unk_token=_END,
        model_max_length=LENGTH,
    )
    tokenizer.add_tokens([f"<bin{k:03d}>" for k in range(BINS)], special_tokens=False)
    return tokenizer


def save(folder: Path) -> CLIPTokenizer:
    """Build the tokenizer and save it in transformers' layout."""
    tokenizer = build()
    tokenizer.save_pretrained(folder)
    return tokenizer
