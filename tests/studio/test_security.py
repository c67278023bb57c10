"""Every address x every method x every kind of stranger: nothing is answered, and nothing changes.

The numbers are those of the attack cases in docs/security.md.
"""

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from studio_client import (
    BASE,
    BEARER,
    HERE,
    SCENE,
    TOKEN,
    Process,
    finished,
    photo,
    png,
    served,
    settings_in,
    upload,
)

from cloisonne.errors import SceneError
from cloisonne.studio.security import HEADERS
from cloisonne.studio.settings import Limits, Settings, check_exposure, models_of

pytestmark = pytest.mark.anyio

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND")
ID = "0123456789abcdef" * 2
PAGE = ("/", "/static/studio.mjs", "/static/none", "/static/../app.py", "/static/%2e%2e/app.py")
"""What may be read without the token: the page, and nothing outside of its folder."""
UNKNOWN = ("/v1", "/v1/", "/v1/jobs/", "/docs", "/redoc", "/openapi.json", "/metrics", "/.env", "/v1/config", "/file=x")


async def known(client: httpx.AsyncClient) -> list[str]:
    """Every address that the application has."""
    return list((await client.get("/v1/openapi.json", headers=BEARER)).json()["paths"])


async def paths(client: httpx.AsyncClient) -> list[str]:
    """Every address that the application has, and some that it has not."""
    filled = [path.format(job=ID, picture=ID, name="builtin") for path in await known(client)]
    return [*filled, "/v1/openapi.json", *PAGE, *UNKNOWN]


async def every_request(client: httpx.AsyncClient) -> list[tuple[str, str]]:
    return list(itertools.product(METHODS, await paths(client)))


def base(client: httpx.AsyncClient) -> str:
    """The origin of a server."""
    return str(client.base_url).rstrip("/")


def cookie_of(client: httpx.AsyncClient) -> str:
    """The name of a server's cookie."""
    return f"cloisonne-{client.base_url.port}"


STRANGERS: dict[str, tuple[dict[str, str], set[int]]] = {
    "wrong host": ({"host": "evil.example:7788"}, {421}),
    "host without the port": ({"host": "127.0.0.1"}, {421}),
    "host of another port": ({"host": "127.0.0.1:80"}, {421}),
    "host with a path": ({"host": "127.0.0.1:7788/v1"}, {421}),
    "foreign origin": ({"origin": "https://evil.example"}, {403}),
    "null origin": ({"origin": "null"}, {403}),
    "origin of another port": ({"origin": "http://127.0.0.1:8188"}, {403}),
    "cross-site": ({"sec-fetch-site": "cross-site"}, {403}),
    "same-site": ({"sec-fetch-site": "same-site"}, {403}),
}


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("with_token", [True, False])
async def test_strangers_get_nothing_from_any_address(
    client: httpx.AsyncClient, stranger: str, with_token: bool
) -> None:
    """Cases 17, 18, 19: even with the token, as a browser would send a cookie along."""
    headers, refused = STRANGERS[stranger]
    for method, path in await every_request(client):
        answer = await client.request(method, path, headers=headers if with_token else headers | {"authorization": ""})
        assert answer.status_code in refused, (method, path)
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "proof",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": "Bearer \xff"},
        {"cookie": f"COOKIE={TOKEN}"},
        {"cookie": f"COOKIE={'0' * 32}.1.{'0' * 64}"},
        {"cookie": "COOKIE="},
        {"cookie": "COOKIE=..."},
    ],
)
async def test_without_the_token_there_is_only_the_page(client: httpx.AsyncClient, proof: dict[str, str]) -> None:
    """Cases 13, 14, 25, 27: unknown addresses too, so that nobody learns which exist."""
    del client.headers["authorization"]
    own = cookie_of(client)
    headers = [(name.encode(), value.replace("COOKIE", own).encode("latin-1")) for name, value in proof.items()]
    for method, path in await every_request(client):
        answer = await client.request(method, path, headers=headers, content=b"")
        if path in PAGE and method in ("GET", "HEAD"):
            assert answer.status_code in ((401, 404) if ".." in path else (200, 404, 405)), (method, path)
            assert b"from cloisonne" not in answer.content, "no source of the package is served"
        elif (method, path) == ("POST", "/v1/session"):
            assert answer.status_code == 415
        else:
            assert answer.status_code == 401, (method, path)


async def test_nothing_changes_by_get(client: httpx.AsyncClient, cluster: Process | None) -> None:
    job = (await client.post("/v1/jobs", json={"verb": "generate", "scene": SCENE})).json()["id"]
    if cluster:
        await finished(client, job)
    picture = (await upload(client, png(photo()))).json()["id"]

    async def state() -> list[Any]:
        contents = [(await client.get(f"/v1/{what}")).content for what in (f"jobs/{job}", f"pictures/{picture}")]
        return [*contents, (await client.get("/v1/status")).json() | {"retry_after": "each server's own"}]

    before = await state()
    for path in [*await known(client), "/v1/openapi.json", *PAGE, *UNKNOWN]:
        if path.endswith("/events"):
            continue  # does not end while the job waits
        for method in ("GET", "HEAD"):
            answer = await client.request(method, path.format(job=job, picture=picture, name="none"))
            assert answer.status_code in (200, 404, 405), (method, path)
    assert before == await state()


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/octet-stream", "", "image/png"]
)
async def test_a_change_needs_json_or_multipart(client: httpx.AsyncClient, kind: str) -> None:
    """Case 17: what a form or a script of another page can send without asking."""
    body = json.dumps({"verb": "generate", "scene": SCENE}).encode()
    for path in await paths(client):
        for method in ("POST", "PUT", "PATCH"):
            answer = await client.request(method, path, content=body, headers={"content-type": kind})
            assert answer.status_code == 415, (method, path)
    assert (await client.get("/v1/jobs")).json() == {"jobs": []}


async def test_every_answer_has_the_headers(client: httpx.AsyncClient) -> None:
    """Cases 20, 22: whatever is answered is not sniffed, framed or scripted, and leads nowhere else."""
    requests, proofs = await every_request(client), (BEARER, {"authorization": "Bearer no"})
    for (method, path), proof in itertools.product(requests, proofs):
        if method in ("GET", "HEAD") and path.endswith("/events"):
            continue
        answer = await client.request(method, path, headers=proof)
        assert HEADERS.items() <= dict(answer.headers).items(), (method, path)
        assert "location" not in answer.headers
        # No device has the model that it asks for.
        assert answer.status_code < 500 or answer.json()["error"]["kind"] == "starting", (method, path, answer.text)
        if path.startswith("/v1/"):
            assert answer.headers["cache-control"] == "no-store"
    policy = HEADERS["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


async def test_the_token_is_exchanged_for_a_cookie_that_scripts_cannot_read(client: httpx.AsyncClient) -> None:
    del client.headers["authorization"]
    wrong = await client.post("/v1/session", json={"token": "wrong"})
    assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
    answer = await client.post("/v1/session", json={"token": TOKEN})
    cookie = answer.headers["set-cookie"].lower()
    assert answer.status_code == 204
    assert all(part in cookie for part in ("httponly", "samesite=strict", "path=/", f"{cookie_of(client)}="))
    assert TOKEN.lower() not in cookie
    assert (await client.get("/v1/status")).status_code == 200


async def test_with_a_cookie_a_change_says_where_it_comes_from(client: httpx.AsyncClient) -> None:
    """Browsers send Origin or Sec-Fetch-Site with every change; a change with neither is not taken."""
    del client.headers["authorization"]
    await client.post("/v1/session", json={"token": TOKEN})
    request = {"verb": "generate", "scene": SCENE}
    assert (await client.post("/v1/jobs", json=request)).status_code == 401
    for headers in ({"origin": base(client)}, {"sec-fetch-site": "same-origin"}):
        assert (await client.post("/v1/jobs", json=request, headers=headers)).status_code == 202
    assert (await client.delete("/v1/session", headers={"origin": base(client)})).status_code == 204


async def test_an_ended_session_ends_everywhere(client: httpx.AsyncClient) -> None:
    """Case 26: whatever server answers."""
    del client.headers["authorization"]
    await client.post("/v1/session", json={"token": TOKEN})
    cookie = dict(client.cookies)
    await client.delete("/v1/session", headers={"origin": base(client)})
    for name, value in cookie.items():
        client.cookies.set(name, value)
    for _ in range(8):
        assert (await client.get("/v1/status")).status_code == 401


@HERE
async def test_an_ended_session_ends_an_open_stream(client: httpx.AsyncClient) -> None:
    """Case 26."""
    del client.headers["authorization"]
    await client.post("/v1/session", json={"token": TOKEN})
    cookie = dict(client.cookies)
    gate = client.gate  # type: ignore[attr-defined]
    raw = [(b"host", b"127.0.0.1:7788"), (b"cookie", "; ".join(f"{n}={v}" for n, v in cookie.items()).encode())]
    scope = {
        "method": "GET",
        "path": "/v1/status",
        "headers": raw,
        "cloisonne.client": f"page:{next(iter(cookie.values())).split('.')[0]}",
    }
    assert gate.allows(scope)
    await client.delete("/v1/session", headers={"origin": BASE})
    assert not gate.allows(scope)


async def test_another_token_ends_all_sessions(tmp_path: Path) -> None:
    async with served(settings_in(tmp_path / "a")) as client:
        await client.post("/v1/session", json={"token": TOKEN})
        cookies = client.cookies
    other = Settings(data=tmp_path / "b", models=models_of([]), devices=(), token="another token of the operator")
    async with served(other) as client:
        del client.headers["authorization"]
        client.cookies = cookies
        assert (await client.get("/v1/status")).status_code == 401


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "studio.example.org"])
def test_a_public_address_needs_a_token_of_the_operators(host: str) -> None:
    """Case 27."""
    with pytest.raises(SceneError, match="token-file"):
        check_exposure(host, None, ["studio.example.org:7788"])
    with pytest.raises(SceneError, match="at least 16"):
        check_exposure(host, "short", ["studio.example.org:7788"])
    check_exposure(host, "a long random token", ["studio.example.org:7788"])


def test_all_addresses_need_names_for_the_host_header() -> None:
    with pytest.raises(SceneError, match="--allow-host"):
        check_exposure("0.0.0.0", "a long random token", [])
    hosts = Settings(data=Path(), models={}, token=TOKEN, host="0.0.0.0", names=("box.local:7788",)).hosts
    assert "box.local:7788" in hosts
    assert not any("0.0.0.0" in host for host in hosts)


@HERE
async def test_a_web_socket_is_closed(client: httpx.AsyncClient) -> None:
    """Case 18."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await client.gate({"type": "websocket", "path": "/v1/jobs", "headers": []}, None, send)  # type: ignore[attr-defined]
    assert sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize("declared", [True, False])
async def test_a_large_body_is_refused_before_it_is_read(tmp_path: Path, declared: bool) -> None:
    """Case 23."""
    limits = Limits(body_bytes=2**20)
    taken = 0

    async def body() -> Any:
        nonlocal taken
        for _ in range(64):
            taken += 2**18
            yield b"x" * 2**18

    async with served(settings_in(tmp_path, limits=limits)) as client:
        for path in ("/v1/jobs", "/v1/explain", "/v1/pictures", "/v1/images/edits", "/v1/session"):
            kind = (
                "multipart/form-data; boundary=b"
                if path in ("/v1/pictures", "/v1/images/edits")
                else "application/json"
            )
            headers = {"content-type": kind} | ({"content-length": str(2**24)} if declared else {})
            taken = 0
            answer = await client.post(path, content=body(), headers=headers)
            assert answer.status_code == 413 or (not declared and answer.status_code == 400), path
            assert taken <= (0 if declared else 2**21), path


async def test_an_upload_that_stops_is_given_up(tmp_path: Path) -> None:
    limits = Limits(seconds_to_send=0.05)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async with served(settings_in(tmp_path, limits=limits)) as client:
        parts = iter([{"type": "http.request", "body": b"{", "more_body": True}])

        async def receive() -> Any:
            if (part := next(parts, None)) is None:
                await asyncio.sleep(60)
            return part

        raw = [
            (b"host", b"127.0.0.1:7788"),
            (b"authorization", BEARER["authorization"].encode()),
            (b"content-type", b"application/json"),
        ]
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/jobs",
            "raw_path": b"/v1/jobs",
            "query_string": b"",
            "headers": raw,
        }
        await client.gate(
            scope
            | {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 7788), "scheme": "http", "http_version": "1.1"},
            receive,
            send,
        )  # type: ignore[attr-defined]
    assert sent[0]["status"] == 408


@HERE
async def test_two_host_headers_are_refused(client: httpx.AsyncClient) -> None:
    gate, sent = client.gate, []  # type: ignore[attr-defined]

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(b"host", b"127.0.0.1:7788"), (b"host", b"evil.example")]
    await gate({"type": "http", "method": "GET", "path": "/", "headers": raw}, None, send)
    assert sent[0]["status"] == 421


@HERE
async def test_secrets_are_not_in_answers_logs_or_reprs(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Studio.md, 7: ids and verbs at INFO, no texts."""
    caplog.set_level("INFO")
    secret = "a very private caption"
    for request in (
        {"verb": "generate", "scene": SCENE | {"caption": secret}},
        {"verb": "edit", "scene": {"caption": secret}},
    ):
        await client.post("/v1/jobs", json=request)
    assert "accepted" in caplog.text
    assert secret not in caplog.text
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(client.studio.settings)  # type: ignore[attr-defined]
    for path in await paths(client):
        if not path.endswith("/events"):
            assert TOKEN not in (await client.get(path)).text
