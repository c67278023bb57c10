"""Which option of a region counts for which kind of condition. Others are refused or warned of, naming the region.

The table in docs/region-options.md is this one with the model families of ``models/capabilities.py`` (tested).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cloisonne.errors import SceneError
from cloisonne.models.capabilities import FAMILIES, TABLE, TITLES
from cloisonne.models.checkpoints.parts import Family
from cloisonne.models.model import Model
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.values import brief

Condition = Callable[[Region, Scene], bool]
"""Whether an option counts in this region of this scene."""


@dataclass(frozen=True)
class Answer:
    """What becomes of an option.

    mark: as the table has it. where: when it counts. advice: what to do where it does not.

    refused: where it does not count, the scene is refused; otherwise it is drawn and its report has a warning.
    """

    mark: str
    advice: str = ""
    where: Condition = lambda region, scene: True
    refused: bool = False


def _never(region: Region, scene: Scene) -> bool:
    return False


def _weighed(region: Region, scene: Scene) -> bool:
    return scene.overlap != "union"


def _ranked(region: Region, scene: Scene) -> bool:
    # Below 0 it is also what an edit takes for the background.
    return scene.overlap == "priority" or region.priority < 0


def _masked(region: Region, scene: Scene) -> bool:
    """Whether the mask counts for a region whose words say its box."""
    own = region.negative != "" or region.guidance is not None or region.seed is not None
    return own or scene.background is not None


def _masked_or_strict(region: Region, scene: Scene) -> bool:
    return region.strict or scene.overlap == "priority" or _masked(region, scene)


def _seeded(region: Region, scene: Scene) -> bool:
    return region.seed is not None or scene.background is not None


def _rivalled(region: Region, scene: Scene) -> bool:
    """Whether anything but the region's own exemplar conditions a network without text."""
    return region.strict or len(scene.active_regions) > 1


YES = Answer("yes")
ALWAYS = Answer("always")
"""So it is in any case; the option is welcome and changes nothing."""
IN_OVERLAP = Answer("yes, but in a union", 'with "overlap": "union" all have equal weights, choose "blend"', _weighed)
RANKED = Answer("with `priority`", 'it ranks regions where the scene has "overlap": "priority"', _ranked)
ROOM = Answer("who has room")
RANKED_ROOM = Answer("with `priority`; who has room")
BOXED = Answer(
    "of strict, negative, guidance, seed",
    "its words say its box; set strict, or choose the method bounded",
    _masked_or_strict,
)
WORDED = Answer("of negative, guidance, seed", "its words say where it is; choose the method bounded or reco", _masked)
SEEDED = Answer("of its seed", "the method caption uses no region; choose another", _seeded)
UNUSED = Answer("no", where=_never)
RIVALLED = Answer("with strict", "nothing else is painted there that it could leave room to; set strict", _rivalled)
PASTED = Answer(
    "with strict",
    "the model paints all of the canvas by its exemplar; set strict, or give a background",
    lambda region, scene: _rivalled(region, scene) or scene.background is not None,
)
NO_NEGATIVE = Answer(
    "refused",
    "Paint by Example takes no text; give the region a phrase, which can have a negative, or leave it out",
    _never,
    refused=True,
)
NO_LORA = Answer(
    "refused",
    "Paint by Example, which has no LoRAs, draws it alone; give it a phrase too, or load an IP-Adapter in its place",
    _never,
    refused=True,
)
AS_WORDS = Answer("as its words")
LEFT_TO_WORDS = Answer("as its words", where=_never)
"""Nothing to a LoRA, which changes the network in every branch."""

OPTIONS: Mapping[str, Callable[[Region], bool]] = {
    "weight": lambda region: region.weight != 1,
    "start, stop": lambda region: (region.start, region.stop) != (0, 1),
    "feather": lambda region: region.feather > 0,
    "mask": lambda region: False,  # every region has a shape: where only its box is told, that is no mistake
    "priority": lambda region: region.priority != 0,
    "negative": lambda region: region.negative != "",
    "guidance": lambda region: region.guidance is not None,
    "seed": lambda region: region.seed is not None,
    "strict": lambda region: region.strict,
    "lora": lambda region: any(lora.scale for lora in region.lora),
}
"""Whether a region turns it. ``mask`` is the shape itself and its grey; ``similarity`` is guidance of an exemplar."""

_ALL = dict.fromkeys(OPTIONS, YES) | {"weight": IN_OVERLAP, "priority": RANKED}
_MASKED = _ALL | {"strict": ALWAYS}
_CAPTION = {"start, stop": UNUSED, "feather": SEEDED, "mask": SEEDED, "priority": UNUSED}

_NOT_A_CONCEPTS = dict.fromkeys(
    ("start, stop", "negative", "seed", "lora"), Answer("refused", where=_never, refused=True)
)
"""Refused with the region itself, whatever the model."""

KINDS: Mapping[str, Mapping[str, Answer]] = {
    "phrase, method reco": _ALL | {"feather": BOXED, "mask": BOXED, "priority": RANKED_ROOM},
    "phrase, method bounded": _MASKED,
    "phrase, method bounded-words": _MASKED,
    "phrase, method attention": _MASKED,
    "phrase, method multidiffusion": _MASKED,
    "phrase, method words": _ALL
    | {"weight": UNUSED, "feather": WORDED, "mask": WORDED, "priority": ROOM, "strict": UNUSED},
    "phrase, method caption": dict.fromkeys(OPTIONS, UNUSED) | _CAPTION | {"seed": YES, "lora": YES},
    "exemplar, IP-Adapter": _MASKED,
    "exemplar, Paint by Example": _ALL | {"negative": NO_NEGATIVE, "lora": NO_LORA},
    "exemplar, Paint by Example alone": _ALL
    | {"weight": RIVALLED, "feather": PASTED, "mask": PASTED, "negative": NO_NEGATIVE, "lora": NO_LORA},
    "control": _MASKED,
    "lora": _ALL | dict.fromkeys(("negative", "guidance", "seed", "strict"), LEFT_TO_WORDS),
    "edit": dict.fromkeys(OPTIONS, AS_WORDS) | {"seed": YES, "lora": Answer("refused")},
    "concept": _MASKED | _NOT_A_CONCEPTS,
}
"""What becomes of each option of ``OPTIONS``, by kind of condition.

A region of several kinds sets an option for those it counts for; it is refused, or warned of, where it counts for none.
"""


def kinds(region: Region, scene: Scene, model: Model) -> Iterator[str]:
    """The rows of ``KINDS`` that a region of a resolved scene is, on a model that can do them."""
    if region.phrase:
        yield f"phrase, method {scene.method}"
    if region.exemplar is not None:
        alone = "exemplar, Paint by Example alone" if model.image_only else "exemplar, Paint by Example"
        yield "exemplar, IP-Adapter" if model.ip_adapter else alone
    if region.control is not None:
        yield "control"
    if region.lora:
        yield "lora"
    if region.concept is not None:
        yield "concept"


def idle(region: Region, scene: Scene, model: Model) -> dict[str, Answer]:
    """The dials that a region turns, and that count for none of its kinds. SceneError where that is refused."""
    found: dict[str, Answer] = {}
    for option, turned in OPTIONS.items():
        answers = [KINDS[kind][option] for kind in kinds(region, scene, model)]
        if not turned(region) or any(answer.where(region, scene) for answer in answers):
            continue
        for answer in answers:
            if answer.refused:
                given = brief(getattr(region, option))
                raise SceneError(f"{option} is {given}, but cannot count here: {answer.advice}.", region=region.name)
            found[option] = answer
    return found


def warnings(region: Region, scene: Scene, model: Model) -> Iterator[str]:
    """What is not honoured of a region, one sentence for each reason, though it is drawn."""
    reasons: dict[str, list[str]] = {"": ["phrase"]} if region.phrase and scene.method == "caption" else {}
    for option, answer in idle(region, scene, model).items():
        reasons.setdefault(answer.advice, []).append(option)
    for advice, named in reasons.items():
        fields = " and ".join(named)
        if advice:
            yield f'Region "{region.name}": its {fields} changes nothing here: {advice}.'
        else:
            yield f'Region "{region.name}": the method "{scene.method}" does not use its {fields}.'


def refuse_unused(regions: Sequence[Region]) -> None:
    """SceneError where something is removed and an option is turned that only words have: there are none after."""
    of_text = ("weight", "start, stop", "negative", "guidance", "strict")
    for region in regions:
        if region.edit is None or region.edit.kind != "remove":
            continue
        if turned := next((option for option in of_text if OPTIONS[option](region)), None):
            raise SceneError(
                f"The region sets {turned}, but it removes something from a given picture and says nothing of its own "
                f'afterwards; leave {turned} out, or write it as an edit of kind change with words for "to".',
                region=region.name,
            )


def markdown() -> str:
    """The table for people."""
    head = ["kind", *OPTIONS, "lines of checkpoints"]
    rows = [[kind, *(answers[option].mark for option in OPTIONS), _lines(kind)] for kind, answers in KINDS.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows])


def _lines(kind: str) -> str:
    """The lines of checkpoints that can do a kind, by the table of conditions."""
    condition, _, engine = kind.partition(", ")
    row = TABLE.get(kind) or TABLE.get(condition) or TABLE["phrase, method attention"]
    marks: dict[Family, str] = {family: row[family].mark for family in FAMILIES}
    lines = [TITLES[f] for f, mark in marks.items() if mark != "no" and _with(engine, f, mark)]
    return "all" if len(lines) == len(FAMILIES) else ", ".join(lines)


def _with(engine: str, family: Family, mark: str) -> bool:
    """Whether a line, whose exemplars need what ``mark`` says, takes those of an engine; any for other kinds."""
    if engine == "Paint by Example alone":
        return family == "pbe"
    return family != "pbe" and engine in mark if engine in ("IP-Adapter", "Paint by Example") else True
