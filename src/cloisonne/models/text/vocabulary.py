"""The words that a model family was trained with: ``words.json``, which any model folder may hold.

``{"version": 1, "groups": {"things": [["doughnut", "donut"], ...], ...}, "grammar": ["a", "the", ...]}``: entries of a
group are a name and its synonyms, of one or several words; grammar is the single words that join them.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from cloisonne.errors import CheckpointError

WORDS = "words.json"
MAX_SUGGESTIONS = 3
"""The most suggestions for an unknown word."""
_WORD = re.compile(r"\w+(?:'\w+)?")
_STOP = re.compile(r"[^\w\s'/-]+")

Entries = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The words of a training set. groups: entries by group, names first. grammar: single words."""

    groups: Mapping[str, Entries]
    grammar: frozenset[str]

    @classmethod
    def read(cls, folder: Path) -> "Vocabulary | None":
        """Read a model folder's list; None where it has none. Raises CheckpointError for a damaged one."""
        file = folder / WORDS
        if not file.is_file():
            return None
        try:
            data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            groups = {group: tuple(tuple(map(str, entry)) for entry in own) for group, own in data["groups"].items()}
            return cls(groups, frozenset(map(str, data["grammar"])))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f'"{file}" is no list of words, {{"version": 1, "groups": {{...}}, "grammar": [...]}}; restore it or '
                "remove it."
            ) from error

    def unknown(self, text: str, learned: Collection[str] = ()) -> list[str]:
        """The words of a plain text that are not in the vocabulary, each once; neighbours form one phrase.

        A known word before an unknown one belongs to the phrase, since it modifies it: "whale shark" is one unknown
        phrase, and of "striped cat" only "striped" is unknown. learned: further known words.
        """
        found: dict[str, None] = {}
        for segment in _STOP.split(_without(text, learned).casefold()):
            words = _WORD.findall(segment)
            for kind, run in groupby(self._labelled(words), key=lambda one: one[1] != "grammar"):
                own = list(run)
                while own and own[-1][1] == "known":
                    own.pop()
                if kind and own:
                    found[" ".join(word for word, _ in own)] = None
        return list(found)

    def suggestions(self, phrase: str) -> list[str]:
        """At most ``MAX_SUGGESTIONS`` known words for a phrase: of similar spelling, or sharing a word."""
        known = list(dict.fromkeys(word for words in self._entries for word in [" ".join(words)]))
        words = phrase.casefold().split()
        close = [match for part in (phrase, *words) for match in get_close_matches(part, known, MAX_SUGGESTIONS, 0.75)]
        holding = [name for name in known if set(name.split()) & set(words)]
        return list(dict.fromkeys([*close, *holding]))[:MAX_SUGGESTIONS]

    def _labelled(self, words: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Each word, or the words of a known entry together, with its label "known", "grammar" or "unknown"."""
        place = 0
        while place < len(words):
            size = next((n for n in self._sizes if tuple(words[place : place + n]) in self._entries), 0)
            own = " ".join(words[place : place + max(size, 1)])
            yield own, self._entries[tuple(own.split())] if size else "grammar" if own in self.grammar else "unknown"
            place += max(size, 1)

    @cached_property
    def _entries(self) -> dict[tuple[str, ...], str]:
        """The words of each entry, with its label; an entry of grammar words, such as a colour, is "grammar"."""
        entries = [entry for own in self.groups.values() for entry in own]
        named = [tuple(_WORD.findall(word.casefold())) for entry in entries for word in entry]
        return {words: "grammar" if set(words) <= self.grammar else "known" for words in named if words}

    @cached_property
    def _sizes(self) -> list[int]:
        return sorted({len(words) for words in self._entries}, reverse=True)


def _without(text: str, learned: Collection[str]) -> str:
    for word in sorted(learned, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", " , ", text, flags=re.IGNORECASE)
    return text
