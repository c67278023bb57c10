"""What happens to a request before its job is accepted: sizes are limited, pictures stored, the scene checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cloisonne.errors import SceneError
from cloisonne.scene.values import brief, closest
from cloisonne.studio import scenes, uploads, verbs
from cloisonne.studio.settings import Limits, Settings
from cloisonne.studio.storage.files import PictureFiles, described
from cloisonne.studio.storage.store import Picture


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """A checked request.

    model: name of its model. scene: its scene's object, with ids in place of pictures. options: arguments of the verb
    that are no part of the scene. inputs: ids of all pictures. pictures: those that were embedded and are stored now.
    """

    model: str
    scene: dict[str, Any]
    options: dict[str, Any]
    inputs: list[str]
    pictures: list[Picture] = field(default_factory=list)

    def request(self) -> dict[str, Any]:
        """What is stored with the job."""
        return {"scene": self.scene, "options": self.options}


def accept(
    verb: str,
    scene: Mapping[str, Any] | None,
    arguments: Mapping[str, Any],
    model: str | None,
    settings: Settings,
    files: PictureFiles,
) -> Accepted:
    """Check a request. Files of embedded pictures are written, and deleted again where the request is refused.

    Raises:
        SceneError, ImageError: the request is refused, with the sentence of the command line.
        StorageFull: an embedded picture cannot be stored.
    """
    limits = settings.limits
    scenes.check_json({"scene": scene, "arguments": arguments}, limits)
    data, options = verbs.composed(verb, scene, arguments)
    scenes.check_sizes(data, limits)
    name = model_name(model, data, settings.models)
    pictures: list[Picture] = []

    def store(embedded: bytes, role: str) -> str:
        pictures.append(stored(embedded, role, files, limits))
        return pictures[-1].id

    try:
        data, inputs = scenes.with_stored_pictures({**data, "model": name}, store, limits)
        for one in inputs:
            if not files.path(one).is_file():
                raise SceneError(f"There is no picture {one}; upload it again.")
        checked = scenes.scene_of(data)
        scenes.check_canvas(checked, limits)
        verbs.check(verb, checked, options, limits)
    except Exception:
        for picture in pictures:
            files.delete(picture.id)
        raise
    return Accepted(model=name, scene=data, options=options, inputs=inputs, pictures=pictures)


def stored(data: bytes, role: str, files: PictureFiles, limits: Limits, name: str = "upload") -> Picture:
    """Encode a picture from outside again and write its file. Raises ImageError or StorageFull."""
    png = uploads.as_png(data, role, limits)
    return _picture(files.write(png), png, name)


def made(png: bytes, files: PictureFiles, name: str, job: str, place: int) -> Picture:
    """Write the file of a picture that a job made. Raises StorageFull."""
    return _picture(files.write(png), png, name, job, place)


def _picture(picture: str, png: bytes, name: str, job: str | None = None, place: int = 0) -> Picture:
    columns: Any = described(png)
    return Picture(id=picture, job=job, name=name, place=place, **columns)


def model_name(asked: str | None, scene: Mapping[str, Any], models: Mapping[str, Any]) -> str:
    """The name of the model for a scene: that of the request, else of the scene, else the first. Raises SceneError."""
    name = asked if asked is not None else scene.get("model", next(iter(models)))
    if isinstance(name, str) and name in models:
        return name
    meant = closest(name, list(models)) if isinstance(name, str) else None
    advice = f'did you mean "{meant}"?' if meant else f"choose one of {', '.join(models)}."
    raise SceneError(f"This server has no model {brief(name)}; {advice}")
