"""What the routes answer, as the schema of the API describes it; the types of the page are made from that.

A field that is not on this list is an error of the tests (tests/support/studio_client.py).
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Status = Literal["queued", "running", "done", "failed", "cancelled"]


class Answer(BaseModel):
    """Base of answers."""

    model_config = ConfigDict(extra="forbid")


class Failure(Answer):
    """Why something was refused or failed."""

    kind: str
    message: str
    region: str | None


class Error(Answer):
    """The answer to a request that is refused."""

    error: Failure


class Picture(Answer):
    """A stored picture."""

    id: str
    name: str
    width: int
    height: int
    bytes: int
    sha256: str
    job: str | None
    created: float
    url: str


class Upload(Picture):
    """An uploaded picture, and the scene in its metadata."""

    scene: dict[str, Any] | None
    scene_error: str | None
    warnings: list[str]


class Image(BaseModel):
    """A picture as OpenAI's routes answer it: a link or the bytes."""

    url: str | None = None
    b64_json: str | None = None


class Images(Answer):
    """The answer of OpenAI's routes."""

    created: int
    data: list[Image]


class AttentionMaps(Answer):
    """The picture of a region's attention maps, which lie one above the other, and their steps."""

    picture: str
    steps: list[int]


class Attention(Answer):
    """What phrases attended to; window: x0, y0, x1, y1 in pixels of the picture."""

    count: int
    window: tuple[int, int, int, int]
    regions: dict[str, AttentionMaps]


class Output(BaseModel):
    """One picture of a report."""

    model_config = ConfigDict(extra="allow")

    seed: int


class Report(BaseModel):
    """What a job reports, as far as the page reads it; the rest is that of the command line."""

    model_config = ConfigDict(extra="allow")

    attention: Attention | None = None
    outputs: list[Output] | None = None
    scene: dict[str, Any] | None = None
    seconds: float | None = None
    warnings: list[str] | None = None
    dropped: list[str] | None = None
    identical_outside: bool | None = None
    max_difference_outside: float | None = None


class Job(Answer):
    """A job; position: number of jobs that are drawn before it."""

    id: str
    number: int
    verb: str
    model: str
    status: Status
    position: int | None
    scene: dict[str, Any] | None
    options: dict[str, Any]
    pictures: list[Picture]
    report: Report | None
    error: Failure | None
    events: str
    created: float
    started: float | None
    finished: float | None
    device: str | None
    again_of: str | None


class Jobs(Answer):
    """A page of jobs, the newest first."""

    jobs: list[Job]


class Condition(Answer):
    """Whether a model has a kind of condition, and why not."""

    supported: bool
    reason: str | None


class Defaults(Answer):
    """A model's own values of a scene's fields."""

    width: int
    height: int
    steps: int
    guidance: float
    sampler: str
    method: str
    conditional_controls: bool


class ModelDetails(Answer):
    """What a loaded model can do."""

    family: str
    title: str
    defaults: Defaults
    grid: int
    conditions: dict[str, Condition]
    controls: list[str]
    loras: list[str]
    vocabulary: dict[str, list[list[str]]] | None
    device: str
    dtype: str
    parameters: int


class Model(Answer):
    """A model of the server; ``details`` of one that was loaded."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    details: ModelDetails | None


class ListedModel(Model):
    """A model of the list."""

    default: bool


class Models(Answer):
    """All models."""

    object: Literal["list"]
    data: list[ListedModel]


class Schema(Answer):
    """JSON schemas of scenes and jobs, and the names that they use.

    presets: by "editing" and "translating", with the value of each field; options: the words that a field takes.
    """

    scene: dict[str, Any]
    job: dict[str, Any]
    arguments: dict[str, list[str]]
    samplers: list[str]
    methods: list[str]
    control_kinds: list[str]
    presets: dict[str, dict[str, dict[str, Any]]]
    options: dict[str, dict[str, list[str]]]


class RegionFinding(Answer):
    """What becomes of a region; coverage and overlaps are fractions."""

    name: str
    active: bool
    coverage: float | None
    overlaps: dict[str, float]
    dropped: bool
    unsupported: str | None
    warnings: list[str]


class Cost(Answer):
    """What a scene costs."""

    steps: int
    forwards: int
    rows: int
    tokens: int
    flops: int
    memory_bytes: int
    seconds: float
    device: str
    setup_forwards: int


class Explanation(Answer):
    """A dry run; window: the part of a background that is drawn again, as text."""

    ok: bool
    unsupported: list[Failure]
    cost: Cost | None
    dropped: list[str]
    warnings: list[str]
    notes: list[str] | None = None
    text: str | None = None
    window: str | None = None
    width: int | None = None
    height: int | None = None
    regions: list[RegionFinding]
    caption_share: float | None


class Document(Answer):
    """The page's unsent document and the time of its last change."""

    document: dict[str, Any] | None
    changed: float | None


class Changed(Answer):
    """The time of a change."""

    changed: float


class Imported(Answer):
    """A scene of another tool's file, and a sentence for each part that was changed or is not carried."""

    scene: dict[str, Any]
    warnings: list[str]


class Exported(Answer):
    """A scene in another format, and a sentence for each part that it cannot hold."""

    data: dict[str, Any]
    warnings: list[str]


class DeviceState(Answer):
    """A device."""

    name: str
    state: str


class ServerStatus(Answer):
    """Devices and the queue; retry_after: seconds."""

    devices: list[DeviceState]
    queued: int
    retry_after: int


def answered(kind: type[BaseModel], status: int = 200) -> dict[int | str, dict[str, Any]]:
    """FastAPI's description of a route that answers this, or an error."""
    return {status: {"model": kind}, "default": {"model": Error}}
