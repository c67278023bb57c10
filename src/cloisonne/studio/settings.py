"""Settings of a server: where it listens, what it stores, which models it has, and the limits of requests."""

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from cloisonne.errors import SceneError
from cloisonne.models.checkpoints.load_options import check_options, check_paths
from cloisonne.models.model_spec import ModelSpec

PORT = 7788
"""Port that is tried first where none is given."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
MIN_TOKEN = 16
"""Fewest characters of a token that an operator chooses."""
BATCH = 8
"""Jobs that share their forward passes on a GPU, unless the operator says otherwise."""
_NAME = re.compile(r"[A-Za-z0-9][\w .-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of requests. All are checked before the memory that they bound is allocated.

    body_bytes: of a request. pixels: of an uploaded or embedded picture. canvas_pixels: of a generated picture.
    regions, vertices, rle_runs, rle_pixels: of a scene, the last three summed over its regions. steps: denoising
    steps. images, sweep: pictures of one job. text, texts: characters of one text and of all texts of a request.
    depth: nesting of JSON. file_bytes: of a learned concept. document_bytes: of the page's unsent document. queued,
    queued_per_client: waiting jobs. streams, streams_per_client: open event streams. decoders: pictures decoded at the
    same time. seconds_to_send: pause after which an upload is given up.
    """

    body_bytes: int = 32 * 2**20
    pixels: int = 4096 * 4096
    canvas_pixels: int = 2048 * 2048
    regions: int = 64
    vertices: int = 20_000
    rle_runs: int = 1_000_000
    rle_pixels: int = 64 * 2**20
    steps: int = 200
    images: int = 16
    sweep: int = 16
    text: int = 2_000
    texts: int = 40_000
    depth: int = 12
    file_bytes: int = 16 * 2**20
    document_bytes: int = 4 * 2**20
    queued: int = 256
    queued_per_client: int = 64
    streams: int = 256
    streams_per_client: int = 24
    decoders: int = 2
    seconds_to_send: float = 30.0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a server.

    data: folder of the database and the pictures. models: specs by name; the first is the default. devices: each has a
    worker process. token: secret that every request proves to know. host, port: address. names: further host names that
    requests may use, each with its port unless that is the scheme's. keep_days: days after which finished jobs and
    their pictures are deleted; None keeps them. batch: largest number of compatible jobs that share their forward
    passes; None means BATCH, and 1 on a CPU. page: folder of the page's files.
    """

    data: Path
    models: Mapping[str, ModelSpec]
    devices: Sequence[str] = ("cpu",)
    token: str = field(repr=False)
    host: str = "127.0.0.1"
    port: int = PORT
    names: Sequence[str] = ()
    keep_days: float | None = None
    batch: int | None = None
    page: Path = Path(__file__).parent / "static"
    limits: Limits = Limits()

    @property
    def hosts(self) -> frozenset[str]:
        """Values of the Host header that are accepted."""
        own = {*LOOPBACK, self.host} - {"0.0.0.0", "::", ""}
        return frozenset([*(f"{bracketed(name)}:{self.port}" for name in own), *self.names])

    def batch_on(self, device: str) -> int:
        """Largest number of jobs that share their forward passes on a device."""
        return self.batch or (1 if device == "cpu" else BATCH)

    @property
    def address(self) -> str:
        """Address of the page, with the token in its fragment, which browsers do not send."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "") else "::1" if self.host == "::" else self.host
        return f"http://{bracketed(host)}:{self.port}/#token={self.token}"


def new_token() -> str:
    """A random token."""
    return secrets.token_urlsafe(24)


def bracketed(host: str) -> str:
    """A host as URLs write it: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


def models_of(given: Sequence[str]) -> dict[str, ModelSpec]:
    """Models by name, of texts "NAME=SPEC" or "SPEC".

    SPEC is what ``load`` takes: "builtin", a folder, a ``.safetensors`` file, a hub id, the ``.json`` file of a
    ``ModelSpec``, or its JSON object. The name of a SPEC alone is the last part of its file or source, without suffix.

    Raises:
        SceneError: two models have one name, or a name has other characters than letters, digits, "._-" and spaces.
        CheckpointError, CapabilityError: a spec is invalid, or names a file that is not there.
    """
    models: dict[str, ModelSpec] = {}
    for text in given or ["builtin"]:
        name, equals, source = text.partition("=")
        if not equals or text.startswith("{"):
            name, equals, source = "", "", text
        if not source or (equals and _NAME.fullmatch(name) is None):
            raise SceneError(f'--model is "{text}"; give a model, or NAME=MODEL with a short name for requests.')
        spec = _spec(source)
        name = name or _name_of(spec.source if source.startswith("{") else source)
        if _NAME.fullmatch(name) is None:
            raise SceneError(f'--model is "{text}", which gives no name for requests; give one, as in NAME={text}.')
        if name in models:
            raise SceneError(f'Two models are called "{name}"; give one another name, as in --model other={source}.')
        models[name] = spec
    return models


def _spec(text: str) -> ModelSpec:
    """The checked spec of a text: relative paths start from the current folder, or from the folder of its file."""
    spec = ModelSpec.from_json(text) if text.startswith("{") else ModelSpec.of(text)
    spec = spec.resolved(Path.cwd())
    check_paths(spec.source, spec.given())
    check_options(spec.source, spec.given())
    return spec


def _name_of(source: str) -> str:
    path = PurePath(source)
    return path.stem if path.suffix in (".safetensors", ".json") else path.name


def check_exposure(host: str, token: str | None, names: Sequence[str]) -> None:
    """Refuse to serve other machines without a token of the operator's own, and host names that requests may use.

    Raises:
        SceneError: names the option that is missing.
    """
    if token is not None and len(token) < MIN_TOKEN:
        raise SceneError(f"The token has {len(token)} characters; give at least {MIN_TOKEN} random ones.")
    if host in LOOPBACK:
        return
    if token is None:
        raise SceneError(
            f'--host is "{host}", which other machines reach; give a secret with --token-file FILE, or serve 127.0.0.1.'
        )
    if host in ("0.0.0.0", "::", "") and not names:
        raise SceneError(
            f'--host is "{host}", all addresses of this machine; name those that browsers use with --allow-host '
            "NAME:PORT, or serve one address."
        )
