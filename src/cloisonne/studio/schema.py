"""Requests and answers as JSON."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cloisonne.errors import SceneError
from cloisonne.scene.values import brief, closest
from cloisonne.studio.storage.store import Job, Picture

Verb = Literal["generate", "inpaint", "edit", "translate", "explain", "sweep", "control"]


class Request(BaseModel):
    """Base of requests: no unknown fields, and one sentence per error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @classmethod
    def of(cls, data: Any) -> Self:
        """Read a request. Raises SceneError."""
        if not isinstance(data, Mapping):
            raise SceneError(f"The request is {brief(data)}; give a JSON object.")
        for name in data:
            if name not in cls.model_fields:
                meant = closest(name, list(cls.model_fields))
                advice = f'did you mean "{meant}"?' if meant else f"the fields are {', '.join(cls.model_fields)}."
                raise SceneError(f"There is no field {brief(name)}; {advice}")
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            field = ".".join(map(str, first["loc"]))
            given = "missing" if first["type"] == "missing" else brief(first["input"])
            wish = first["msg"][:1].lower() + first["msg"][1:]
            raise SceneError(f"{field} is {given}; {wish}.") from None


class JobRequest(Request):
    """A job.

    Attributes:
        verb: what to do.
        scene: a scene's object, for generate, edit, explain and sweep.
        arguments: the other arguments of the verb; see ``docs/api.md``.
        model: name of a model of the server; by default that of the scene, else the server's first.
    """

    verb: Verb
    scene: dict[str, Any] | None = None
    arguments: dict[str, Any] = Field(default_factory=dict)
    model: str | None = Field(default=None, max_length=100)


class ExplainRequest(Request):
    """A dry run: what becomes of each region, and what the scene costs."""

    scene: dict[str, Any]
    model: str | None = Field(default=None, max_length=100)


class DocumentRequest(Request):
    """The page's unsent document; null forgets it."""

    document: dict[str, Any] | None


class ExportRequest(Request):
    """A scene in another format.

    Attributes:
        scene: a scene's object.
        format: "coco" or "elements".
        size: width and height in pixels of COCO's image; by default the scene's, or its background's.
    """

    scene: dict[str, Any]
    format: Literal["coco", "elements"]
    size: Annotated[list[Annotated[int, Field(ge=1, le=4096)]], Field(min_length=2, max_length=2)] | None = None


class SessionRequest(Request):
    """The token, in exchange for a cookie."""

    token: str = Field(max_length=1000)


class ImagesRequest(Request):
    """OpenAI's ``images/generations``. user is accepted and not used."""

    prompt: str = Field(min_length=1)
    model: str | None = Field(default=None, max_length=100)
    n: int | None = Field(default=None, ge=1)
    size: str | None = Field(default=None, max_length=20)
    response_format: Literal["b64_json", "url"] | None = None
    user: str | None = Field(default=None, max_length=200)


def picture_json(picture: Picture) -> dict[str, Any]:
    """A picture in an answer."""
    fields = ("id", "name", "width", "height", "bytes", "sha256", "job", "created")
    return {name: getattr(picture, name) for name in fields} | {"url": f"/v1/pictures/{picture.id}"}


def job_json(job: Job, position: int | None = None) -> dict[str, Any]:
    """A job in an answer. position: number of jobs that are drawn before it."""
    fields = ("id", "number", "verb", "model", "status", "created", "started", "finished", "device", "again_of")
    own = {name: getattr(job, name) for name in fields}
    return own | {
        "position": position,
        "scene": job.request.get("scene"),
        "options": job.request.get("options", {}),
        "pictures": [picture_json(picture) for picture in job.pictures],
        "report": job.report,
        "error": job.error,
        "events": f"/v1/jobs/{job.id}/events",
    }
