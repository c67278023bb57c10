"""The options of a region, and what becomes of one for a kind of condition: it counts, is warned of, or is refused."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

Condition: TypeAlias = Callable[[Region, Scene], bool]
"""Whether an option counts in this region of this scene."""


@dataclass(frozen=True)
class Answer:
    """What becomes of an option.

    mark: the cell of the table. where: when it counts. advice: what to do where it does not count. refused: where it
    does not count, the scene is refused; otherwise the image is generated and its report has a warning.
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
    """Whether the mask counts for a region that is described by its box."""
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
"""It is in effect in any case; setting it is allowed and changes nothing."""
IN_OVERLAP = Answer("yes, but in a union", 'with "overlap": "union" all have equal weights, choose "blend"', _weighed)
RANKED = Answer("with `priority`", 'it ranks regions where the scene has "overlap": "priority"', _ranked)
ROOM = Answer("who has room")
RANKED_ROOM = Answer("with `priority`; who has room")
BOXED = Answer(
    "of strict, negative, guidance, seed",
    "its box is encoded, not its shape; set strict, or choose the method bounded",
    _masked_or_strict,
)
WORDED = Answer(
    "of negative, guidance, seed", "its place is encoded in words; choose the method bounded or reco", _masked
)
SEEDED = Answer("of its seed", "the method caption uses no region; choose another", _seeded)
UNUSED = Answer("no", where=_never)
RIVALLED = Answer(
    "with strict", "nothing else conditions the region that could get the remaining weight; set strict", _rivalled
)
PASTED = Answer(
    "with strict",
    "the exemplar conditions the whole canvas; set strict, or give a background",
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
    "Paint by Example, which has no LoRAs, generates it alone; give it a phrase too, or load an IP-Adapter instead",
    _never,
    refused=True,
)
AS_PHRASE = Answer("as its phrase")
LEFT_TO_PHRASE = Answer("as its phrase", where=_never)
"""Does not apply to a LoRA, which changes the network in every branch."""
LORA_ITSELF = Answer("yes", where=_never)
"""A region's LoRAs count if those of another of its conditions do."""

EMBEDDED = Answer("no", "this model takes one scale of guidance as an input and has no negative prompt", _never)
"""Of options of the null branch, on models whose guidance has none."""

OPTIONS: Mapping[str, Callable[[Region], bool]] = {
    "weight": lambda region: region.weight != 1,
    "start, stop": lambda region: (region.start, region.stop) != (0, 1),
    "feather": lambda region: region.feather > 0,
    "mask": lambda region: False,  # every region has a shape: where only its box is encoded, that is no mistake
    "priority": lambda region: region.priority != 0,
    "negative": lambda region: region.negative != "",
    "guidance": lambda region: region.guidance is not None,
    "seed": lambda region: region.seed is not None,
    "strict": lambda region: region.strict,
    "lora": lambda region: any(lora.scale for lora in region.lora),
}
"""Whether a region sets it. ``mask`` is the shape itself and its grey values; ``similarity`` is the guidance of an
exemplar."""

Answers: TypeAlias = dict[str, Answer]
"""What becomes of each option of ``OPTIONS``."""

ALL: Answers = dict.fromkeys(OPTIONS, YES) | {"weight": IN_OVERLAP, "priority": RANKED}
MASKED: Answers = dict(ALL) | {"strict": ALWAYS}
"""Of conditions that are confined to the region's mask in any case."""
WITHOUT_NULL: Answers = dict.fromkeys(("negative", "guidance"), EMBEDDED)
"""Replaces these of any condition, on models whose guidance has no null branch."""
BY_BOX: Answers = dict(ALL) | {"feather": BOXED, "mask": BOXED, "priority": RANKED_ROOM}
BY_WORDS: Answers = dict(ALL) | {
    "weight": UNUSED,
    "feather": WORDED,
    "mask": WORDED,
    "priority": ROOM,
    "strict": UNUSED,
}
BY_CAPTION: Answers = dict.fromkeys(OPTIONS, UNUSED) | {"feather": SEEDED, "mask": SEEDED, "seed": YES, "lora": YES}
PAINTED: Answers = dict(ALL) | {"negative": NO_NEGATIVE, "lora": NO_LORA}
PAINTED_ALONE: Answers = dict(PAINTED) | {"weight": RIVALLED, "feather": PASTED, "mask": PASTED}
OF_LORA: Answers = (
    dict(ALL) | dict.fromkeys(("negative", "guidance", "seed", "strict"), LEFT_TO_PHRASE) | {"lora": LORA_ITSELF}
)
OF_EDIT: Answers = dict.fromkeys(OPTIONS, AS_PHRASE) | {"seed": YES, "lora": Answer("refused")}
OF_CONCEPT: Answers = dict(MASKED) | dict.fromkeys(
    ("start, stop", "negative", "seed", "lora"), Answer("refused", where=_never, refused=True)
)
"""What is refused is refused with the region itself, whatever the model."""
