r"""Prompts of InvokeAI's Stable Diffusion models (compel's syntax) in the syntax of a scene.

``word+`` and ``(words)++`` weigh 1.1 and 1.1 squared, ``-`` 0.9, ``(words)1.3`` 1.3. Brackets without a weight only
group. Blends, conjunctions and swaps (``.blend()``, ``.and()``, ``.swap()``) are no weights.
"""

import re

from cloisonne.errors import SceneError
from cloisonne.scene.io.interchange.imported_values import Report
from cloisonne.scene.prompt import escaped, pieces

_FUNCTIONS = re.compile(r"\)\s*\.(and|blend|swap)\s*\(")
_WORD = re.compile(r"(?<![\w(\\+-])([\w']+)(\++|-+)(?=[\s,.;!?)]|$)")
_GROUP = re.compile(r"(?<!\\)\(((?:[^()\\]|\\.)*)\)(\++|-+|\d+\.?\d*|\.\d+)?")
_PLUS, _MINUS = 1.1, 0.9
_OPEN, _CLOSE = "\ue000", "\ue001"
"""Stand for the brackets of weights that are found already."""


def scene_text(text: str, owner: str, report: Report) -> str:
    """A prompt in the syntax of a scene; literal, with a sentence to ``report``, if it has syntax without a meaning."""
    if _FUNCTIONS.search(text):
        report(f"{owner} has blends, conjunctions or swaps, which were taken literally.")
        return escaped(text)
    converted = re.sub(r"(?<!\\)[\[\]{}]", r"\\\g<0>", text)
    converted = _WORD.sub(lambda found: _weighted(found[1], found[2]), converted)
    while (after := _GROUP.sub(lambda found: _weighted(found[1], found[2] or ""), converted)) != converted:
        converted = after
    converted = converted.replace(_OPEN, "(").replace(_CLOSE, ")")
    try:
        pieces(converted)
    except SceneError as error:
        report(f"{owner} was taken literally, without weights. {error}")
        return escaped(text)
    return converted


def _weighted(words: str, sign: str) -> str:
    if not sign:
        return words
    weight = _PLUS ** len(sign) if sign[0] == "+" else _MINUS ** len(sign) if sign[0] == "-" else float(sign)
    return f"{_OPEN}{words}:{weight:.6g}{_CLOSE}"
