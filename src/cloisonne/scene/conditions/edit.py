"""The edit of a region: an object is added, removed or changed."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, model_serializer, model_validator

from cloisonne.errors import SceneError
from cloisonne.scene.prompt import Prompt, is_empty, plain
from cloisonne.scene.values import Value, brief

EditKind = Literal["add", "remove", "change"]


class Edit(Value):
    """What a region contains before and after.

    Attributes:
        kind: "add" and "remove" take ``phrase``; "change" takes ``before`` and ``after``.
        phrase: the object that is added or removed.
        before, after: the object before and after a change (``from`` and ``to`` in JSON).
    """

    kind: EditKind
    phrase: Prompt = ""
    before: Prompt = ""
    after: Prompt = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        needed = ("before", "after") if self.kind == "change" else ("phrase",)
        for name in ("phrase", "before", "after"):
            given = getattr(self, name)
            if name in needed and is_empty(given):
                raise SceneError(f'edit of kind {self.kind} has no "{_NAMES[name]}"; describe the object in words.')
            if name not in needed and given:
                raise SceneError(
                    f'edit of kind {self.kind} takes no "{_NAMES[name]}", but it is {brief(given)}; remove it.'
                )
        return self

    @property
    def words_before(self) -> str:
        """Phrase of the region before the edit; "" if an object is added."""
        return {"add": "", "remove": self.phrase, "change": self.before}[self.kind]

    @property
    def words_after(self) -> str:
        """Phrase of the region after the edit; "" if an object is removed."""
        return {"add": self.phrase, "remove": "", "change": self.after}[self.kind]

    @property
    def redraws(self) -> bool:
        """Whether the object is added, removed or replaced: its phrases end in different words.

        "a red car" and "a blue car" are the same object; "a red car" and "a bus" are not.
        """
        return self.kind != "change" or _last_word(self.before) != _last_word(self.after)

    @model_serializer(mode="wrap")
    def _in_json(self, write: Any) -> dict[str, Any]:
        data: dict[str, Any] = write(self)
        return {_NAMES.get(name, name): value for name, value in data.items() if value}


def _last_word(text: str) -> str:
    return plain(text).lower().split()[-1]


_NAMES: dict[str, str] = {"phrase": "phrase", "before": "from", "after": "to"}
_FIELDS: dict[str, str] = {"from": "before", "to": "after"}


def given_edit(value: Any) -> Any:
    """Make an edit from a mapping of its fields."""
    if value is None or isinstance(value, Edit):
        return value
    if not isinstance(value, Mapping):
        raise SceneError(f'edit is {brief(value)}; give an object {{"kind": "add", "phrase": "a crown"}}.')
    fields: dict[str, Any] = {_FIELDS.get(name, str(name)): part for name, part in value.items()}
    return Edit(**fields)


EditField = Annotated[Edit, BeforeValidator(given_edit)]
