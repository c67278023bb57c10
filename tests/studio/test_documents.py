"""The page's unsent document."""

import time
from pathlib import Path
from typing import Any

import pytest
from studio_client import SCENE, photo, png, served, settings_in, upload

from cloisonne.studio.settings import Limits

pytestmark = pytest.mark.anyio
DOCUMENT: dict[str, Any] = {"scene": SCENE, "marks": {"donut": {"colour": 3}}}


async def test_a_document_is_there_after_a_restart(tmp_path: Path) -> None:
    async with served(settings_in(tmp_path)) as client:
        assert (await client.get("/v1/document")).json() == {"document": None, "changed": None}
        changed = (await client.put("/v1/document", json={"document": DOCUMENT})).json()["changed"]
    async with served(settings_in(tmp_path)) as client:
        assert (await client.get("/v1/document")).json() == {"document": DOCUMENT, "changed": changed}
        later = (await client.put("/v1/document", json={"document": None})).json()["changed"]
        assert later > changed
        assert (await client.get("/v1/document")).json() == {"document": None, "changed": later}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"document": 7}, 422),
        ({}, 422),
        ({"document": {}, "more": 1}, 422),
        ({"document": {"a": "x" * 2001}}, 422),
        ({"document": {"a": [[[[[[[[[[[[[]]]]]]]]]]]]]}}, 422),
        ({"document": {"a": [1] * 60_000}}, 413),
    ],
)
async def test_documents_are_limited(tmp_path: Path, body: Any, status: int) -> None:
    async with served(settings_in(tmp_path, limits=Limits(document_bytes=100_000))) as client:
        answer = await client.put("/v1/document", json=body)
        assert answer.status_code == status, answer.text
        assert answer.json()["error"]["message"].endswith(".")
        assert (await client.get("/v1/document")).json()["document"] is None


async def test_pictures_of_the_document_are_kept(tmp_path: Path) -> None:
    async with served(settings_in(tmp_path)) as client:
        kept, gone = [(await upload(client, png(photo(seed=seed)))).json()["id"] for seed in range(2)]
        store = client.studio.store  # type: ignore[attr-defined]
        assert await client.studio.db(store.expire, time.time() + 1, [kept]) == 1  # type: ignore[attr-defined]
        assert (await client.get(f"/v1/pictures/{kept}")).status_code == 200
        assert (await client.get(f"/v1/pictures/{gone}")).status_code == 404
