"""Warnings about regions that do not fit the model's text."""

from collections.abc import Sequence


def dropped_warnings(names: Sequence[str]) -> tuple[str, ...]:
    """One warning for each region that is left out."""
    advice = "shorten the phrases, or give it a higher priority"
    return tuple(f'Region "{name}" is left out, because it does not fit the model\'s text; {advice}.' for name in names)
