"""What the texts of a scene ask for besides words, brought to fields of the scene; and what a model does not know."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cloisonne.errors import SceneError
from cloisonne.models.capabilities import TITLES
from cloisonne.models.model import Model
from cloisonne.models.text.encoder import TextEncoder
from cloisonne.scene.choices import chosen, options
from cloisonne.scene.conditions.lora import Lora
from cloisonne.scene.prompt import at, plain, switches
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.tags import added, untagged
from cloisonne.scene.values import shown

_Change = Callable[[Region | None, str, str], str]
"""From the region (None: the scene), the name of a text and the text to another text."""
_OF_EDITS = ("phrase", "before", "after")
_FINE = 1000
"""Steps by which schedules are read, so that all that a text ever holds is."""
MOST_UNKNOWN = 6
"""At most so many unknown words of one text are named."""


@dataclass(frozen=True)
class Understood:
    """scene: as given, with its choices made and its tags as fields. warnings: what was left as words or left out."""

    scene: Scene
    warnings: tuple[str, ...]


def understand(scene: Scene, model: Model) -> Understood:
    """Make the choices by the scene's seed (drawn if there is none), and turn LoRA and embedding tags into what they
    ask for. Done twice it changes nothing more; only what stays in the texts is warned of again.

    Raises SceneError, naming the region, for what cannot be meant.
    """
    scene = with_choices(scene)
    warnings: list[str] = []
    loras: dict[str | None, tuple[Lora, ...]] = {}

    def read(region: Region | None, name: str, text: str) -> str:
        found = untagged(text, lambda word: _learned_as(word, model))
        who = _subject(region, name)
        warnings.extend(f"{who} holds {note}." for note in found.notes)
        if found.loras and name == "negative":
            warnings.extend(
                f'{who} names the LoRA "{lora.name}", which is left out: a negative has none.' for lora in found.loras
            )
        elif found.loras:
            owner = region.name if region else None
            loras[owner] = added(loras.get(owner, ()), found.loras)
        return found.text

    scene = _changed(scene, read, loras)
    return Understood(scene, (*warnings, *_unknown(scene, model)))


def with_choices(scene: Scene) -> Scene:
    """The scene with one option of each ``{a|b}``, by its seed, which it then has."""
    if not any(list(options(text)) for _, _, text in _texts(scene)):
        return scene
    seed = secrets.randbelow(2**32) if scene.seed is None else scene.seed

    def choose(region: Region | None, name: str, text: str) -> str:
        return chosen(text, seed, f"{(region.name if region else None) or ''}\n{name}")

    return _changed(scene.replace(seed=seed), choose, {})


def _learned_as(word: str, model: Model) -> str | None:
    """The learned word that an embedding's name means."""
    known = {name.casefold(): name for name in _learned(model)}
    return next((known[own] for own in (word.casefold(), f"<{word.casefold()}>") if own in known), None)


def _learned(model: Model) -> list[str]:
    """All learned words of the model, and the added tokens of its tokenizer."""
    if not isinstance(model.text, TextEncoder):
        return []
    return [*model.text.learned.ids, *model.text.tokenizer.get_added_vocab()]


def _unknown(scene: Scene, model: Model) -> list[str]:
    """A warning for each text with words that the model's list does not have, if it has a list."""
    if model.vocabulary is None:
        return []
    who = f"the {TITLES['builtin']}" if model.family == "builtin" else f'the model "{model.name}"'
    learned, warnings = _learned(model), []
    for region, name, text in _texts(scene):
        moments = sorted({0.0, *switches(text, _FINE)})
        said = [plain(at(text, moment, _FINE)) for moment in moments]
        unknown = dict.fromkeys(phrase for words in said for phrase in model.vocabulary.unknown(words, learned))
        if unknown:
            named = [_with_near(phrase, model.vocabulary.near(phrase)) for phrase in unknown][:MOST_UNKNOWN]
            more = f" and {len(unknown) - MOST_UNKNOWN} more" if len(unknown) > MOST_UNKNOWN else ""
            warnings.append(f"{_subject(region, name)}: {who} does not know {', '.join(named)}{more}.")
    return warnings


def _with_near(phrase: str, near: list[str]) -> str:
    return shown(phrase) + (f" (it knows {', '.join(map(shown, near))})" if near else "")


def _subject(region: Region | None, name: str) -> str:
    """The beginning of a sentence about a text."""
    if region is None:
        return f"The scene's {name}"
    return f'The negative of region "{region.name}"' if name == "negative" else f'Region "{region.name}"'


def _texts(scene: Scene) -> list[tuple[Region | None, str, str]]:
    """All texts of a scene that counts: owner, name, text."""
    found: list[tuple[Region | None, str, str]] = [
        (None, name, getattr(scene, name)) for name in ("caption", "negative")
    ]
    for region in scene.active_regions:
        found += [(region, name, getattr(region, name)) for name in ("phrase", "negative")]
        if region.edit is not None:
            found += [(region, name, getattr(region.edit, name)) for name in _OF_EDITS]
    return [one for one in found if one[2]]


def _changed(scene: Scene, change: _Change, loras: dict[str | None, tuple[Lora, ...]]) -> Scene:
    """The scene with its texts changed, and then with more LoRAs by the owner's name."""
    own = {name: change(None, name, getattr(scene, name)) for name in ("caption", "negative")}
    regions = [_region(region, change, loras) if region.active else region for region in scene.regions]
    told = {**own, "lora": added(scene.lora, loras.get(None, ())), "regions": tuple(regions)}
    changes = {name: value for name, value in told.items() if value != getattr(scene, name)}
    return scene.replace(**changes) if changes else scene


def _region(region: Region, change: _Change, loras: dict[str | None, tuple[Lora, ...]]) -> Region:
    try:
        told: dict[str, Any] = {name: change(region, name, getattr(region, name)) for name in ("phrase", "negative")}
        if region.edit is not None:
            told["edit"] = region.edit.replace(
                **{name: change(region, name, getattr(region.edit, name)) for name in _OF_EDITS}
            )
        told["lora"] = added(region.lora, loras.get(region.name, ()))
        changes = {name: value for name, value in told.items() if value != getattr(region, name)}
        return region.replace(**changes) if changes else region
    except SceneError as error:
        raise error if error.region else SceneError(str(error), region=region.name) from None
