"""Texts longer than a text encoder reads at once, in chunks that are encoded one by one.

As in AUTOMATIC1111, compel and diffusers' long prompts: each chunk has a start, an end and padding of its own, and the
network attends to all of them one after the other.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

MAX_CHUNKS = 8
"""Most chunks of one text."""
BACKTRACK = 20
"""Where a chunk is full, a comma or the end of a word is searched among so many of its last tokens."""


class Token(NamedTuple):
    """A token id, and the number of the piece of text that it belongs to."""

    id: int
    piece: int


def chunks(
    pieces: Sequence[Sequence[int]],
    capacity: int,
    is_comma: Callable[[int], bool],
    ends_word: Callable[[int], bool],
) -> list[list[Token]]:
    """Split the token ids of a text's pieces into chunks of at most ``capacity`` tokens; at least one chunk.

    A piece that does not fit the rest of a chunk begins a new one if it fits there as a whole. A longer piece is cut
    behind a comma, else behind a word, else where the chunk is full.
    """
    found: list[list[Token]] = [[]]
    for number, ids in enumerate(pieces):
        left = [Token(i, number) for i in ids]
        if found[-1] and len(left) <= capacity < len(found[-1]) + len(left):
            found.append([])
        while len(left) > capacity - len(found[-1]):
            cut = _cut([token.id for token in left[: capacity - len(found[-1])]], is_comma, ends_word)
            found[-1] += left[:cut]
            found.append([])
            left = left[cut:]
        found[-1] += left
    return found


def _cut(ids: Sequence[int], is_comma: Callable[[int], bool], ends_word: Callable[[int], bool]) -> int:
    """How many of the ids that fit stay."""
    for is_last in (is_comma, ends_word):
        for place in range(len(ids), max(len(ids) - BACKTRACK, 0), -1):
            if is_last(ids[place - 1]):
                return place
    return len(ids)


def spans(found: Sequence[Sequence[Token]], num_pieces: int, length: int) -> tuple[tuple[tuple[int, int], ...], ...]:
    """The (start, stop) of each piece in the chunks' sequences of ``length`` tokens, one behind the other."""
    own: list[list[tuple[int, int]]] = [[] for _ in range(num_pieces)]
    for number, chunk in enumerate(found):
        for place, token in enumerate(chunk, number * length + 1):
            spans_of = own[token.piece]
            if spans_of and spans_of[-1][1] == place:
                spans_of[-1] = (spans_of[-1][0], place + 1)
            else:
                spans_of.append((place, place + 1))
    return tuple(map(tuple, own))
