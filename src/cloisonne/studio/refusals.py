"""Answers to requests that are refused: a status and one sentence."""

from collections.abc import Mapping
from typing import Any

from cloisonne.errors import CapabilityError, CheckpointError, CloisonneError, ImageError, OutputError, SceneError


class Refusal(Exception):
    """A request that is refused.

    Attributes:
        status: HTTP status.
        kind: short name of the reason, or of the exception class, in JSON.
        headers: further headers of the answer.
        region: name of the region that it is about, or None.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "refused",
        region: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.region = region
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        return {"error": {"kind": self.kind, "message": str(self), "region": self.region}}


class StorageFull(Exception):
    """The data folder cannot be written."""


def refusal_of(error: Exception) -> Refusal:
    """The answer for an exception."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, StorageFull):
        return Refusal(507, str(error), kind="storage")
    if isinstance(error, CloisonneError):
        return Refusal(422, str(error), kind=kind_of(error), region=error.region)
    return Refusal(500, "The server failed; its log has the reason.", kind="internal")


def kind_of(error: Exception) -> str:
    """The name of an error in JSON: the public exception class, or "failed" for a run that failed."""
    public = (SceneError, ImageError, CapabilityError, CheckpointError)
    named = next((kind.__name__ for kind in public if isinstance(error, kind)), "failed")
    return "failed" if isinstance(error, OutputError) else named


def missing(what: str, name: str) -> Refusal:
    """The answer for an unknown id."""
    return Refusal(404, f"There is no {what} {name}; it may have been deleted.", kind="missing")
