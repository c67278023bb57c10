"""The gate before every route: host, origin, token, content type and size are checked before anything is read.

It wraps the whole application, so no route can be added past it.
"""

import asyncio
import hashlib
import hmac
import re
import secrets
from typing import Protocol

from itsdangerous import BadSignature, TimestampSigner
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloisonne.errors import on_command_line
from cloisonne.studio.refusals import Refusal
from cloisonne.studio.settings import Settings

CLIENT = "cloisonne.client"
"""Key of the scope that names the client: a session, or the caller of the API."""
SESSION_SECONDS = 30 * 24 * 3600
BODIES = ("application/json", "multipart/form-data")
READING = ("GET", "HEAD")
HEADERS = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
}
_LABEL = re.compile(r"[\w-]{1,64}", re.ASCII)


class Ended(Protocol):
    """Ids of sessions that have ended."""

    def add(self, session: str, /) -> None:
        """Add one."""
        ...

    def __contains__(self, session: object, /) -> bool: ...


class Sessions:
    """Cookies of browsers: an id and a time, signed with the token. A new token ends all of them.

    Args:
        token: secret of the server.
        port: in the cookie's name, because browsers send cookies to all ports of a host.

    Attributes:
        ended: sessions whose cookies are invalid.
    """

    def __init__(self, token: str, port: int) -> None:
        self._digest = hashlib.sha256(token.encode()).digest()
        self._signer = TimestampSigner(
            token, salt="cloisonne.session", key_derivation="hmac", digest_method=hashlib.sha256
        )
        self.cookie = f"cloisonne-{port}"
        self.ended: Ended = set()

    def is_token(self, given: str) -> bool:
        """Compare with the token, in the same time for every wrong one."""
        return hmac.compare_digest(hashlib.sha256(given.encode("utf-8", "replace")).digest(), self._digest)

    def new(self) -> str:
        """The value of a new cookie."""
        return self._signer.sign(secrets.token_hex(16)).decode()

    def session(self, value: str) -> str | None:
        """The id of a valid cookie's session, else None."""
        try:
            name = self._signer.unsign(value, max_age=SESSION_SECONDS).decode()
        except BadSignature:
            return None
        return None if name in self.ended else name

    def end(self, session: str) -> None:
        """Make a session's cookie invalid."""
        self.ended.add(session)


class Gate:
    """An ASGI application before another one."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.sessions = Sessions(settings.token, settings.port)
        self._hosts = settings.hosts
        self._limits = settings.limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refused request, or pass it on with a client's name in its scope."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        send = _with_headers(send, scope["path"])
        try:
            scope[CLIENT] = self._client(scope, Headers(scope=scope))
        except Refusal as refusal:
            answer = JSONResponse(refusal.body(), status_code=refusal.status, headers=refusal.headers)
            await answer(scope, receive, send)
            return
        with on_command_line():
            await self.app(scope, self._bounded(receive), send)

    def allows(self, scope: Scope) -> bool:
        """Whether a request that was let in would still be: an open stream asks this again and again."""
        try:
            return self._client(scope, Headers(scope=scope)) == scope[CLIENT]
        except Refusal:
            return False

    def _client(self, scope: Scope, headers: Headers) -> str:
        """The client's name. Raises Refusal."""
        self._check_site(headers)
        method, path = scope["method"], scope["path"]
        if method in READING and (path == "/" or path.startswith("/static/")):
            return "page"
        changes = method not in READING
        client = self._proven(scope, headers, needs_site=changes)
        if client is None and (method, path) != ("POST", "/v1/session"):
            raise Refusal(
                401,
                "The token is missing or wrong; open the address that the server printed, or send it as "
                '"Authorization: Bearer TOKEN".',
                kind="token",
                headers={"www-authenticate": "Bearer"},
            )
        if method in ("POST", "PUT", "PATCH"):
            self._check_body(headers)
        return client or "page"

    def _check_site(self, headers: Headers) -> None:
        host = headers.getlist("host")
        if len(host) != 1 or host[0].lower() not in self._hosts:
            given = host[0][:100] if len(host) == 1 else f"{len(host)} values"
            raise Refusal(
                421, f"The Host header is {given!a}; use an address that this server was started with.", kind="host"
            )
        own = {f"{scheme}://{host[0].lower()}" for scheme in ("http", "https")}
        if any(origin.lower() not in own for origin in headers.getlist("origin")):
            raise Refusal(
                403, "The request comes from another origin; only this server's own page may send it.", kind="origin"
            )
        if any(site not in ("same-origin", "none") for site in headers.getlist("sec-fetch-site")):
            raise Refusal(
                403,
                "The request comes from another site; copy the address that the server printed into the browser.",
                kind="site",
            )

    def _proven(self, scope: Scope, headers: Headers, *, needs_site: bool) -> str | None:
        """The name of a client that proves to know the token, else None."""
        given = headers.getlist("authorization")
        if given:
            kind, _, token = given[0].partition(" ")
            if len(given) != 1 or kind.lower() != "bearer" or not self.sessions.is_token(token.strip()):
                return None
            label = headers.get("cloisonne-client", "")
            peer = (scope.get("client") or ("unknown", 0))[0]
            return f"api:{label}" if _LABEL.fullmatch(label) else f"api:{peer}"
        if needs_site and not (headers.get("origin") or headers.get("sec-fetch-site")):
            return None  # browsers report where a change comes from
        values = (part.strip().partition("=") for line in headers.getlist("cookie") for part in line.split(";"))
        own = [value for name, _, value in values if name == self.sessions.cookie]
        session = self.sessions.session(own[0]) if len(own) == 1 else None
        return None if session is None else f"page:{session}"

    def _check_body(self, headers: Headers) -> None:
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in BODIES:
            raise Refusal(415, f"The content type is {kind[:100]!a}; send {' or '.join(BODIES)}.", kind="type")
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or int(length) > self._limits.body_bytes:
            raise self._too_large()

    def _too_large(self) -> Refusal:
        return Refusal(413, f"The request is larger than {self._limits.body_bytes >> 20} MiB; send less.", kind="size")

    def _bounded(self, receive: Receive) -> Receive:
        """Receive at most ``body_bytes`` of a request, and not for ever."""
        total, complete = 0, False

        async def bounded() -> Message:
            nonlocal total, complete
            if complete:
                return await receive()  # the disconnection, for which an event stream waits
            try:
                message = await asyncio.wait_for(receive(), self._limits.seconds_to_send)
            except TimeoutError:
                raise Refusal(408, "The request stopped in the middle; send it again.", kind="timeout") from None
            if message["type"] == "http.request":
                total += len(message.get("body", b""))
                complete = not message.get("more_body", False)
                if total > self._limits.body_bytes:
                    raise self._too_large()
            return message

        return bounded


def _with_headers(send: Send, path: str) -> Send:
    """Add the security headers to every answer; answers of the API are not stored unless they say so."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in (HEADERS | ({"cache-control": "no-store"} if path.startswith("/v1/") else {})).items():
                headers.setdefault(name, value)
        await send(message)

    return sending
