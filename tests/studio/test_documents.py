"""The page's unsent document, and layouts of other tools."""

import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from studio_client import SCENE, photo, png, served, settings_in, upload

from cloisonne.scene import Scene, to_elements
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


async def test_elements_are_read_and_written(client: httpx.AsyncClient) -> None:
    found, _ = to_elements(Scene.from_dict(SCENE))
    for form in (found, found["compositional_deconstruction"]["elements"]):
        answer = (await client.post("/v1/elements/read", json={"elements": form})).json()
        assert answer["warnings"] == []
        (region,) = answer["scene"]["regions"]
        assert region == {"name": "region-0", "box": [0.05, 0.05, 0.45, 0.45], "phrase": "a doughnut"}
    written = (await client.post("/v1/elements/write", json={"scene": SCENE})).json()
    assert written == {"elements": found, "warnings": []}


async def test_masks_of_a_scene_become_boxes(client: httpx.AsyncClient) -> None:
    """Stored and embedded ones; the latter leave nothing behind."""
    mask = photo(64, 64, "L").point(lambda _: 0)
    mask.paste(255, (16, 32, 48, 64))
    stored = (await upload(client, png(mask))).json()["id"]
    import base64

    embedded = "data:image/png;base64," + base64.b64encode(png(mask)).decode()
    for given in ({"picture": stored}, embedded):
        scene = {"regions": [{"name": "m", "mask": given, "phrase": "a cat"}]}
        answer = (await client.post("/v1/elements/write", json={"scene": scene})).json()
        (element,) = answer["elements"]["compositional_deconstruction"]["elements"]
        assert element["bbox"] == [500, 250, 1000, 750]
        assert answer["warnings"] == ['Region "m": elements have no mask.']
    folder = client.data / "pictures"  # type: ignore[attr-defined]
    assert [path.stem for path in folder.rglob("*.png")] == [stored]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("read", {"elements": {"regions": []}}),
        ("read", {"elements": [{"desc": "a cat", "bbox": [0, 0, 10, 10]}] * 65}),
        ("read", {"elements": [{"desc": "x" * 2001, "bbox": [0, 0, 10, 10]}]}),
        ("write", {"scene": {"elements": []}}),
        ("write", {"scene": {"regions": [{"box": [0, 0, 1, 1]}]}}),
        ("write", {"scene": {"background": "/etc/passwd"}}),
    ],
)
async def test_what_is_refused(client: httpx.AsyncClient, path: str, body: Any) -> None:
    answer = await client.post(f"/v1/elements/{path}", json=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["message"].endswith(".")
