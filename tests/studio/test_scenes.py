"""Scenes from outside: limited before they are read, without files, refused with the command line's sentence."""

import base64
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from studio_client import SCENE, photo, png, served, settings_in, upload

from cloisonne.errors import CloisonneError, SceneError
from cloisonne.scene import Region, Scene
from cloisonne.scene.io.embedded import check_embedded
from cloisonne.scene.io.image_ref import ImageRef
from cloisonne.studio.scenes import (
    check_json,
    check_sizes,
    references,
    scene_of,
    with_ids,
    with_stored_pictures,
)
from cloisonne.studio.settings import Limits

pytestmark = pytest.mark.anyio

ID = "0123456789abcdef" * 2
FILE = "/etc/passwd"
BOX = {"box": [0, 0, 1, 1]}
PLACES: dict[str, dict[str, Any]] = {
    "background": {"background": None},
    "outside": {"regions": [{**BOX, "name": "a", "phrase": "a cat"}], "outside": {"regions": ["a"], "image": None}},
    "outside mask": {"outside": {"regions": [], "image": {"picture": ID}, "mask": None}},
    "mask": {"regions": [{"mask": None, "phrase": "a cat"}]},
    "exemplar": {"regions": [{**BOX, "exemplar": None}]},
    "exemplar image": {"regions": [{**BOX, "exemplar": {"image": None}}]},
    "control": {"regions": [{**BOX, "control": {"kind": "canny", "image": None}}]},
    "control from": {"regions": [{**BOX, "control": {"kind": "canny", "from": None}}]},
    "concept": {"regions": [{**BOX, "concept": None}]},
    "concept image": {"regions": [{**BOX, "concept": {"image": None}}]},
    "concept file": {"regions": [{**BOX, "concept": {"file": None}}]},
    "concept content": {"regions": [{**BOX, "concept": {"image": {"picture": ID}, "content": None}}]},
}
"""Every place of a scene that takes a picture."""
FILES: list[Any] = [
    FILE,
    "file:///etc/passwd",
    "https://evil.example/x.png",
    "//evil.example/x.png",
    "C:\\Windows\\win.ini",
    "\\\\evil.example\\share\\x.png",
    "~/.ssh/id_rsa",
    "x.png",
    {"path": FILE},
    {"path": FILE, "sha256": "0" * 64},
    {"picture": FILE},
    {"picture": ID, "path": FILE},
    {"picture": "../" + ID},
    "data:text/plain;base64,AAAA",
    "data:image/svg+xml;base64,AAAA",
    ["x.png"],
    7,
]


def placed(place: str, value: Any) -> dict[str, Any]:
    """The scene of a place, with a value there."""
    return json.loads(json.dumps(PLACES[place]).replace("null", json.dumps(value)))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("file", FILES, ids=str)
async def test_no_scene_names_a_file(client: httpx.AsyncClient, place: str, file: Any) -> None:
    """Cases 11, 21: in every place, in every form."""
    for path, body in (("/v1/jobs", {"verb": "generate"}), ("/v1/explain", {})):
        answer = await client.post(path, json={**body, "scene": placed(place, file)})
        assert answer.status_code == 422, answer.text
        assert answer.json()["error"]["kind"] in ("SceneError", "ImageError")
    assert (await client.get("/v1/jobs")).json() == {"jobs": []}


@pytest.mark.parametrize("place", PLACES)
def test_the_last_line_of_defence_knows_every_place(place: str) -> None:
    """What the first check lets through by a mistake of ours, the second one finds in the scene itself."""
    scene = Scene.from_dict(_drawable(placed(place, "some/file.png")))
    with pytest.raises(SceneError, match="only embedded files are accepted"):
        check_embedded(scene)


def _drawable(data: dict[str, Any]) -> dict[str, Any]:
    """Without ids, and with the background that a concept needs."""
    data = json.loads(json.dumps(data).replace(json.dumps({"picture": ID}), json.dumps({"sha256": "0" * 64})))
    return {"background": {"sha256": "0" * 64}} | data if "concept" in json.dumps(data) else data


def test_every_picture_of_a_scene_has_its_place_here() -> None:
    """A new kind of picture in a scene is put into PLACES on purpose."""
    schema = json.dumps(Scene.json_schema())
    assert schema.count("a path relative to the scene's file, or data:image/png;base64,...") == 10


@pytest.mark.parametrize("place", [place for place in PLACES if place not in ("concept file", "concept content")])
async def test_embedded_pictures_become_ids(client: httpx.AsyncClient, place: str) -> None:
    embedded = "data:image/png;base64," + base64.b64encode(png(photo(mode="L"))).decode()
    other = (await upload(client, png(photo()))).json()["id"]
    scene = json.loads(json.dumps(placed(place, embedded)).replace(ID, other))
    if "concept" in place:
        scene["background"] = {"picture": other}
    answer = await client.post("/v1/jobs", json={"verb": "generate", "scene": scene})
    assert answer.status_code == 202, answer.text
    kept = answer.json()["scene"]
    assert "data:" not in json.dumps(kept)
    for picture in references(kept):
        assert (await client.get(f"/v1/pictures/{picture}")).status_code == 200


async def test_unknown_pictures_are_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", json={"verb": "generate", "scene": {"background": {"picture": ID}}})
    assert answer.json()["error"]["message"] == f"There is no picture {ID}; upload it again."


async def test_a_refused_scene_leaves_no_picture(client: httpx.AsyncClient) -> None:
    embedded = "data:image/png;base64," + base64.b64encode(png(photo())).decode()
    for scene in (
        {"background": embedded, "steps": 0},
        {"background": embedded, "outside": {"image": FILE, "regions": []}},
    ):
        assert (await client.post("/v1/jobs", json={"verb": "generate", "scene": scene})).status_code == 422
    assert list((client.data / "pictures").rglob("*.*")) == []  # type: ignore[attr-defined]


LARGE: dict[str, Any] = {
    "regions": {"regions": [{**BOX, "phrase": "a cat"}] * 65},
    "points": {"regions": [{"polygon": [[0, 0], [0, 1], [1, 1]] * 7000, "phrase": "a cat"}]},
    "runs": {"regions": [{"rle": {"size": [1000, 1001], "counts": [1] * 1_001_000}, "phrase": "a cat"}]},
    "runs as text": {"regions": [{"rle": {"size": [10, 10], "counts": "1" * 1_000_001}, "phrase": "a cat"}]},
    "rle pixels": {"regions": [{"rle": {"size": [8000, 8000], "counts": [64_000_000]}, "phrase": "a cat"}] * 2},
    "steps": {"steps": 201},
    "canvas": {"width": 2048, "height": 2056},
    "one side": {"width": 4096 + 8},
    "text": {"caption": "x" * 2001},
    "texts": {"regions": [{**BOX, "phrase": "x" * 2000}] * 21},
    "names": {"x" * 2001: 1},
    "nesting": {"editing": json.loads("[" * 20 + "]" * 20)},
}


@pytest.mark.parametrize("scene", LARGE.values(), ids=LARGE)
async def test_limits_are_sentences(client: httpx.AsyncClient, scene: dict[str, Any]) -> None:
    """Case 23: before anything is allocated."""
    answer = await client.post("/v1/jobs", json={"verb": "generate", "scene": scene})
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["kind"] == "SceneError"
    assert len(error["message"]) < 400
    assert (await client.get("/v1/jobs")).json() == {"jobs": []}


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("generate", {"num_images": 17}),
        ("generate", {"num_images": 0}),
        ("generate", {"num_images": True}),
        ("generate", {"model_path": FILE}),
        ("generate", {"callback_on_step_end": "x"}),
        ("generate", {"__class__": "x"}),
        ("sweep", {"field": "seed", "values": list(range(17))}),
        ("sweep", {"field": "model", "values": ["/etc"]}),
        ("sweep", {"field": "background", "values": [FILE]}),
        ("sweep", {"field": "donut.mask", "values": [FILE]}),
        ("sweep", {"field": "__init__", "values": [1]}),
        ("sweep", {"field": "steps", "values": [1000]}),
        ("sweep", {"field": "seed", "values": []}),
        ("sweep", {}),
        ("edit", {"preset": "none"}),
        ("edit", {"self_attention_share": 2}),
        ("edit", {"cache": "/tmp"}),
        ("control", {"image": {"picture": ID}}),
        ("inpaint", {"image": {"picture": ID}}),
        ("translate", {"image": {"picture": ID}, "reference": {"picture": ID}, "cache": "/tmp"}),
    ],
)
async def test_arguments_are_an_allow_list(client: httpx.AsyncClient, verb: str, arguments: dict[str, Any]) -> None:
    """Cases 8, 16: nothing is set or called by a name from a request."""
    body = {"verb": verb, "scene": SCENE, "arguments": arguments}
    assert (await client.post("/v1/jobs", json=body)).status_code == 422


@pytest.mark.parametrize(
    "model", [FILE, "../builtin", "owner/name", "https://x", "builtin/../..", "", "Builtin", None, 7, ["builtin"]]
)
async def test_models_are_names_of_the_operators_list(client: httpx.AsyncClient, model: Any) -> None:
    """Cases 1, 5, 21, 25: no path, address or hub id from a request, wherever it is."""
    scene = {"verb": "generate", "scene": SCENE | {"model": model}}
    answer = await client.post("/v1/jobs", json=scene)
    assert answer.status_code == 422
    if model is not None:
        assert (
            await client.post("/v1/jobs", json={"verb": "generate", "scene": SCENE, "model": model})
        ).status_code == 422
        assert (await client.post("/v1/explain", json={"scene": SCENE, "model": model})).status_code == 422
        assert (
            await client.post("/v1/images/generations", json={"prompt": "a cat", "model": model})
        ).status_code == 422
    assert (await client.get("/v1/jobs")).json() == {"jobs": []}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b'{"verb": "generate", "verb": "edit"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"verb": "generate", "scene": {"seed": NaN}}',
        b'{"verb": "generate", "scene": {"guidance": 1e999}}',
        b'{"verb": "run"}',
        b'{"verb": "generate"}',
        b'{"verb": "generate", "scene": {"caption": "\\ud800"}}',
        b'{"verb": "generate", "scene": {}, "url": "http://x"}',
        b'{"verb": "generate", "scene": {"bbox_controls": []}}',
    ],
    ids=lambda body: repr(body[:40]),
)
async def test_no_body_is_more_than_a_sentence(client: httpx.AsyncClient, body: bytes) -> None:
    for path in ("/v1/jobs", "/v1/explain", "/v1/images/generations", "/v1/session"):
        answer = await client.post(path, content=body, headers={"content-type": "application/json"})
        assert answer.status_code in (401, 422), (path, answer.text)
        message = answer.json()["error"]["message"]
        assert message.endswith(".")
        assert "Traceback" not in message


def refusal(data: dict[str, Any]) -> str:
    """What the command line says about a scene."""
    with pytest.raises(CloisonneError) as caught:
        Scene.from_json(json.dumps(data))
    return str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        {"steps": 0},
        {"captoin": "a cat"},
        {"regions": [{"box": [0, 0, 2, 2], "phrase": "a cat"}]},
        {"regions": [{"name": "pet", "box": [0, 0, 1, 1]}]},
        {"regions": [{"name": "pet", "box": [0, 0, 1, 1], "phrase": "a", "ellipse": [0, 0, 1, 1]}]},
        {"strength": 0.5},
        {"sampler": "none"},
    ],
)
async def test_the_sentence_is_that_of_the_command_line(client: httpx.AsyncClient, data: dict[str, Any]) -> None:
    answer = await client.post("/v1/jobs", json={"verb": "generate", "scene": data})
    assert answer.json()["error"]["message"] == refusal(data)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(FILES[:6]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)
NAMED = st.dictionaries(
    st.sampled_from(["background", "outside", "regions", "steps", "width", "caption", "model"]), JSON
)
REGIONS = st.lists(st.dictionaries(st.sampled_from([*Region.model_fields]), JSON, max_size=4), max_size=3)


@given(NAMED | st.builds(lambda regions: {"regions": regions}, REGIONS))
def test_whatever_comes_is_a_scene_or_a_sentence(data: dict[str, Any]) -> None:
    limits = Limits()
    with suppress(CloisonneError):
        check_json(data, limits)
        check_sizes(data, limits)
        stored, _ = with_stored_pictures(data, lambda data, role: ID, limits)
        scene_of(stored)


def test_ids_and_embedded_pictures_are_inverse() -> None:
    import hashlib

    data, mask = png(photo()), png(photo(mode="L"))
    stored = {"a" * 32: data, "b" * 32: mask}
    scene = {
        "background": {"picture": "a" * 32},
        "regions": [{"name": "r", "mask": {"picture": "b" * 32}, "phrase": "a cat"}],
    }
    complete = scene_of(scene, stored.__getitem__).to_dict()
    assert complete["background"].startswith("data:image/png")
    ids = {hashlib.sha256(content).hexdigest(): name for name, content in stored.items()}
    assert with_ids(complete, ids) == {"version": 1, **scene}
    assert with_ids(complete, {})["background"] == {"sha256": hashlib.sha256(data).hexdigest()}


async def test_a_smaller_limit_of_the_operator_holds(tmp_path: Path) -> None:
    async with served(settings_in(tmp_path, limits=Limits(steps=10, images=2))) as client:
        for scene, arguments, status in (
            ({"steps": 11}, {}, 422),
            ({"steps": 10}, {}, 202),
            ({}, {"num_images": 3}, 422),
        ):
            body = {"verb": "generate", "scene": scene, "arguments": arguments}
            assert (await client.post("/v1/jobs", json=body)).status_code == status


def test_references_to_files_are_found_however_deep() -> None:
    scene = Scene(regions=[Region(box=(0, 0, 1, 1), exemplar=ImageRef(path=Path("x.png")))])
    with pytest.raises(SceneError, match=r"x\.png"):
        check_embedded(scene)
