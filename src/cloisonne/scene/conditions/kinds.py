"""The table of the conditions that a region can be given besides its phrase, one row a kind: ``CONDITIONS``.

A region validates, reads, writes and compares its conditions by this table. How a kind conditions a network is in
``methods/kinds.py``.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cloisonne.errors import SceneError
from cloisonne.scene.conditions.concept import ConceptImage, check_concept, given_concept
from cloisonne.scene.conditions.control import Control, given_control
from cloisonne.scene.conditions.edit import Edit, given_edit
from cloisonne.scene.conditions.exemplar import Exemplar, check_exemplar, given_exemplar
from cloisonne.scene.conditions.lora import Lora, given_loras
from cloisonne.scene.io.image_ref import FILE, ImageRef
from cloisonne.scene.values import Value, brief


@dataclass(frozen=True, kw_only=True)
class ConditionField:
    """A kind of condition, as a field of a region.

    Attributes:
        name: the field.
        value: class of its value, or of the items of its value.
        given: makes the value from what is given, for ``read``; None accepts a mapping of its fields, or what ``bare``
            stands for.
        files: the fields of its JSON object that refer to files, with the role that messages call each by; FILE is one
            that is not an image.
        bare: the field that a reference to a file stands for where it is given in place of the object; "" is none.
        texts: the fields of its value that are prompts.
        alone: whether a region with it needs no phrase.
        excludes: fields of the region that cannot be given with it.
        sole: whether it also excludes every other kind.
        because: the end of the sentence about an excluded field; {name} is the field.
        options: fields of the region that only it uses.
        check: raises SceneError where further fields of the region do not go with it.
        sweeps: options that a sweep varies: fields of the region, or of the value as in "exemplar.strength".
        surrounded: whether a given image is cropped with surroundings, which its network reads.
        stale: a field of its object that is dropped, by the name of one whose change makes it invalid.
    """

    name: str
    value: type[Value]
    given: Callable[[Any], Any] | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    bare: str = ""
    texts: tuple[str, ...] = ()
    alone: bool = False
    excludes: tuple[str, ...] = ()
    sole: bool = False
    because: str = "remove {name}."
    options: tuple[str, ...] = ()
    check: Callable[[Any], None] = lambda region: None
    sweeps: tuple[str, ...] = ()
    surrounded: bool = False
    stale: Mapping[str, str] = field(default_factory=dict)

    def read(self, value: Any) -> Any:
        """Make the value from what is given. Raises SceneError or ImageError."""
        if self.given is not None or isinstance(value, self.value):
            return value if self.given is None else self.given(value)
        if isinstance(value, Mapping) and not (self.bare and is_reference(value)):
            return self.value(**value)
        if not self.bare:
            raise SceneError(
                f"{self.name} is {brief(value)}; give an object with {', '.join(self.value.field_names())}."
            )
        return self.value(**{self.bare: value})

    def images(self, value: Any) -> Iterator[tuple[str, ImageRef]]:
        """The images that a value refers to, with their roles in messages."""
        for name, role in self.files.items():
            if role != FILE and isinstance(image := getattr(value, name, None), ImageRef):
                yield role, image


CONDITIONS: dict[str, ConditionField] = {
    row.name: row
    for row in (
        ConditionField(
            name="edit",
            value=Edit,
            given=given_edit,
            texts=("phrase", "before", "after"),
            alone=True,
            excludes=("phrase", "exemplar", "control", "concept"),
            because="an edit has its own texts; remove {name}.",
            surrounded=True,
        ),
        ConditionField(
            name="concept",
            value=ConceptImage,
            given=given_concept,
            texts=("word",),
            files={"image": "concept", "file": FILE, "content": FILE},
            bare="image",
            alone=True,
            excludes=("phrase", "negative", "keywords"),
            sole=True,
            because="a concept is the only condition of its region; remove {name}, or move it to another region.",
            check=check_concept,
            sweeps=("concept.keep_structure", "concept.concept_strength"),
            stale={"image": "file", "word": "file"},
        ),
        ConditionField(
            name="exemplar",
            value=Exemplar,
            given=given_exemplar,
            files={"image": "exemplar"},
            bare="image",
            alone=True,
            options=("similarity",),
            check=check_exemplar,
            sweeps=("similarity", "exemplar.strength"),
            surrounded=True,
        ),
        ConditionField(
            name="control",
            value=Control,
            given=given_control,
            files={"photo": "photo", "from": "photo", "image": "control map"},
            alone=True,
            sweeps=("control.strength",),
        ),
        ConditionField(name="lora", value=Lora, given=given_loras),
    )
}
"""The kinds of condition by name, in the order in which their rules are checked."""


def is_reference(value: Any) -> bool:
    """Whether a JSON value is a reference to a file, not an object with one."""
    return not isinstance(value, Mapping) or set(value) <= {"path", "sha256"}


def conditions_of(region: Any) -> dict[str, Any]:
    """The values of the conditions that a region is given, by name."""
    return {name: value for name in CONDITIONS if (value := getattr(region, name, None))}


def images_of(region: Any) -> Iterator[tuple[str, ImageRef]]:
    """The images that condition a region, with their roles in messages."""
    for name, value in conditions_of(region).items():
        yield from CONDITIONS[name].images(value)


def check_conditions(region: Any) -> None:
    """Raise SceneError for conditions that do not go together, and for options without their condition."""
    given = conditions_of(region)
    for row in CONDITIONS.values():
        if row.name in given:
            _check_excluded(row, region)
            row.check(region)
            continue
        for option in row.options:
            if (value := getattr(region, option)) is not None:
                raise SceneError(
                    f"{option} is {value}, but the region has no {row.name}; give one, or leave {option} out."
                )


def _check_excluded(row: ConditionField, region: Any) -> None:
    for name in dict.fromkeys((*row.excludes, *(CONDITIONS if row.sole else ()))):
        if name != row.name and (given := getattr(region, name, None)):
            text = f" ({brief(given)})" if isinstance(given, str) else ""
            because = row.because.format(name=name)
            raise SceneError(f"The region has both {row.name} and {name}{text}, but {because}")
