"""Prompt syntax: choices, LoRA and embedding tags become fields of the scene; warnings for unknown words."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cloisonne.errors import SceneError
from cloisonne.models.families import FAMILIES
from cloisonne.models.model import Model
from cloisonne.scene.choices import chosen, options
from cloisonne.scene.conditions.kinds import CONDITIONS
from cloisonne.scene.conditions.lora import Lora
from cloisonne.scene.prompt import at, plain, switches
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.tags import added, untagged
from cloisonne.scene.values import brief

_Change = Callable[[Region | None, str, str], str]
"""Maps a region (None for the scene), a text's field name and the text to a new text."""
_FINE = 1000
"""Number of steps at which prompt schedules are read, fine enough to find every text they hold."""
MOST_UNKNOWN = 6
"""Most unknown words named in the warning about one text."""


@dataclass(frozen=True)
class Understood:
    """scene: with choices made and tags as fields. warnings: syntax that was left as text or left out."""

    scene: Scene
    warnings: tuple[str, ...]


def understand(scene: Scene, model: Model) -> Understood:
    """Resolve choices by the scene's seed (random if there is none), and LoRA and embedding tags to fields and words.

    Idempotent, except that warnings about the remaining texts are repeated. Raises SceneError, naming the region, for
    invalid syntax.
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
                f'{who} names the LoRA "{lora.name}", which is left out: negative prompts take no LoRAs.'
                for lora in found.loras
            )
        elif found.loras:
            owner = region.name if region else None
            loras[owner] = added(loras.get(owner, ()), found.loras)
        return found.text

    scene = _changed(scene, read, loras)
    return Understood(scene, (*warnings, *_unknown(scene, model)))


def with_choices(scene: Scene) -> Scene:
    """The scene with one option of each ``{a|b}``, chosen by its seed; a scene without a seed gets a random one."""
    if not any(list(options(text)) for _, _, text in _texts(scene)):
        return scene
    seed = secrets.randbelow(2**32) if scene.seed is None else scene.seed

    def choose(region: Region | None, name: str, text: str) -> str:
        return chosen(text, seed, f"{(region.name if region else None) or ''}\n{name}")

    return _changed(scene.replace(seed=seed), choose, {})


def _learned_as(word: str, model: Model) -> str | None:
    """The learned word of an embedding's name; None if there is none."""
    known = {name.casefold(): name for name in model.text.added_words}
    return next((known[own] for own in (word.casefold(), f"<{word.casefold()}>") if own in known), None)


def _unknown(scene: Scene, model: Model) -> list[str]:
    """A warning for each text with words that are not in the model's vocabulary, if it has one."""
    if model.vocabulary is None:
        return []
    who = f"the {FAMILIES[model.family].title}" if model.family == "builtin" else f'the model "{model.name}"'
    learned, warnings = model.text.added_words, []
    for region, name, text in _texts(scene):
        moments = sorted({0.0, *switches(text, _FINE)})
        texts = [plain(at(text, moment, _FINE)) for moment in moments]
        unknown = dict.fromkeys(phrase for words in texts for phrase in model.vocabulary.unknown(words, learned))
        if unknown:
            named = [_with_near(phrase, model.vocabulary.suggestions(phrase)) for phrase in unknown][:MOST_UNKNOWN]
            more = f" and {len(unknown) - MOST_UNKNOWN} more" if len(unknown) > MOST_UNKNOWN else ""
            warnings.append(f"{_subject(region, name)}: {who} does not know {', '.join(named)}{more}.")
    return warnings


def _with_near(phrase: str, near: list[str]) -> str:
    return brief(phrase) + (f" (it knows {', '.join(map(brief, near))})" if near else "")


def _subject(region: Region | None, name: str) -> str:
    """The start of a sentence about a text."""
    if region is None:
        return f"The scene's {name}"
    return f'The negative of region "{region.name}"' if name == "negative" else f'Region "{region.name}"'


def _texts(scene: Scene) -> list[tuple[Region | None, str, str]]:
    """All non-empty texts of a scene and its active regions: owner, field name, text."""
    found: list[tuple[Region | None, str, str]] = [
        (None, name, getattr(scene, name)) for name in ("caption", "negative")
    ]
    for region in scene.active_regions:
        found += [(region, name, getattr(region, name)) for name in ("phrase", "negative")]
        for condition, value in region.conditions.items():
            found += [(region, name, getattr(value, name)) for name in CONDITIONS[condition].texts]
    return [one for one in found if one[2]]


def _changed(scene: Scene, change: _Change, loras: dict[str | None, tuple[Lora, ...]]) -> Scene:
    """The scene with its texts changed, then with LoRAs added by the owner's name."""
    own = {name: change(None, name, getattr(scene, name)) for name in ("caption", "negative")}
    regions = [_region(region, change, loras) if region.active else region for region in scene.regions]
    new = {**own, "lora": added(scene.lora, loras.get(None, ())), "regions": tuple(regions)}
    changes = {name: value for name, value in new.items() if value != getattr(scene, name)}
    return scene.replace(**changes) if changes else scene


def _region(region: Region, change: _Change, loras: dict[str | None, tuple[Lora, ...]]) -> Region:
    try:
        new: dict[str, Any] = {name: change(region, name, getattr(region, name)) for name in ("phrase", "negative")}
        for condition, value in region.conditions.items():
            if texts := CONDITIONS[condition].texts:
                new[condition] = value.replace(**{name: change(region, name, getattr(value, name)) for name in texts})
        new["lora"] = added(region.lora, loras.get(region.name, ()))
        changes = {name: value for name, value in new.items() if value != getattr(region, name)}
        return region.replace(**changes) if changes else region
    except SceneError as error:
        raise error if error.region else SceneError(str(error), region=region.name) from None
