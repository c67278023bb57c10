"""Checks of region options: which of them count, by ``KINDS`` of ``methods/kinds.py``.

The table in docs/region-options.md is made from it (tested).
"""

from collections.abc import Iterator

from cloisonne.errors import SceneError
from cloisonne.methods.answers import OPTIONS, Answer
from cloisonne.methods.kinds import KINDS, given_kinds, rows
from cloisonne.models.families import FAMILIES
from cloisonne.models.model import Model
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.values import brief


def idle(region: Region, scene: Scene, model: Model) -> dict[str, Answer]:
    """The options that a region sets and that count for none of its conditions.

    Raises SceneError, naming the region, where that is refused.
    """
    tables = [kind.answers(model) for kind in given_kinds(region, scene)]
    found: dict[str, Answer] = {}
    for option, is_set in OPTIONS.items():
        answers = [table[option] for table in tables]
        if not is_set(region) or any(answer.where(region, scene) for answer in answers):
            continue
        for answer in answers:
            if answer.refused:
                given = brief(getattr(region, option))
                raise SceneError(f"{option} is {given}, but cannot count here: {answer.advice}.", region=region.name)
            found[option] = answer
    return found


def warnings(region: Region, scene: Scene, model: Model) -> Iterator[str]:
    """What is not honoured of a region that is generated, one sentence for each reason."""
    reasons: dict[str, list[str]] = {"": ["phrase"]} if region.phrase and scene.method == "caption" else {}
    for option, answer in idle(region, scene, model).items():
        reasons.setdefault(answer.advice, []).append(option)
    for advice, named in reasons.items():
        fields = " and ".join(named)
        if advice:
            yield f'Region "{region.name}": its {fields} changes nothing here: {advice}.'
        else:
            yield f'Region "{region.name}": the method "{scene.method}" does not use its {fields}.'


def markdown() -> str:
    """The options of every kind of condition as a Markdown table."""
    head = ["kind", *OPTIONS, "model families"]
    lines = [head, ["---"] * len(head)]
    for kind in KINDS.values():
        for name, answers, families in rows(kind):
            named = [family.title for family in FAMILIES.values() if family.name in families]
            where = "all" if len(named) == len(FAMILIES) else ", ".join(named)
            lines.append([name, *(answers[option].mark for option in OPTIONS), where])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
