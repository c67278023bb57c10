"""Learned words (textual inversion, arXiv 2208.01618): how they are found in a text, and the ids of their vectors."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count, takewhile
from typing import Any

_PLACE = re.compile(r"<bin\d+>|<\|.*\|>")
"""Added tokens that are no learned words: ReCo's position tokens, start and end tokens."""
_NUMBERED = re.compile(r"(.+)_[1-9]\d*")


@dataclass(frozen=True)
class LearnedWords:
    """Learned words of one or several vectors each, matched as whole words, ignoring case, the longest first.

    ids: the token ids of each word's vectors.
    """

    ids: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, tokenizer: Any, added: Mapping[str, tuple[int, ...]]) -> "LearnedWords":
        """The added words, and those that the folder's tokenizer holds, as "ink ink_1 ink_2" for three vectors."""
        ours = {i for ids in added.values() for i in ids}
        tokens = {t: i for t, i in tokenizer.added_tokens_encoder.items() if i not in ours and not _PLACE.fullmatch(t)}
        found: dict[str, tuple[int, ...]] = {}
        for word in tokens:
            first = match[1] if (match := _NUMBERED.fullmatch(word)) else None
            if first not in tokens:
                rest = takewhile(tokens.__contains__, (f"{word}_{k}" for k in count(1)))
                found[word] = tuple(tokens[token] for token in (word, *rest))
        return cls(found | dict(added))

    @cached_property
    def _by_case(self) -> dict[str, str]:
        return {name.casefold(): name for name in self.ids}

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        if not self.ids:
            return None
        names = sorted(self.ids, key=lambda name: (-len(name), name))
        return re.compile("|".join(map(_whole, names)), re.IGNORECASE)

    def split(self, text: str) -> list[tuple[str, str | None]]:
        """The non-empty parts of a text in order, each with the learned word's name, or None for other text."""
        if self._pattern is None:
            return [(text, None)] if text else []
        parts: list[tuple[str, str | None]] = []
        end = 0
        for match in self._pattern.finditer(text):
            parts += [(text[end : match.start()], None), (match[0], self._named(match[0]))]
            end = match.end()
        parts.append((text[end:], None))
        return [part for part in parts if part[0]]

    def used(self, text: str) -> tuple[str, ...]:
        """The names of the learned words in a text, each once, in order of appearance."""
        return tuple(dict.fromkeys(name for _, name in self.split(text) if name is not None))

    def name_of(self, token: int) -> str | None:
        """The learned word that a token id belongs to, None for other tokens."""
        return next((name for name, ids in self.ids.items() if token in ids), None)

    def _named(self, written: str) -> str:
        return written if written in self.ids else self._by_case[written.casefold()]


def _whole(name: str) -> str:
    """A pattern of the name as a whole word: no letter, digit or underscore next to one of its own."""
    before = r"(?<!\w)" if re.match(r"\w", name) else ""
    after = r"(?!\w)" if re.search(r"\w\Z", name) else ""
    return f"{before}{re.escape(name)}{after}"
