"""Jobs with a real worker and the built-in family: every verb, the bytes of the command line, cancelling, events.

One server for all tests of this file, because a worker takes seconds to start.
"""

import asyncio
import base64
import io
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from studio_client import SCENE, Process, events, finished, photo, png, reached, served, settings_in, upload

from cloisonne.cli import main as cli
from cloisonne.models.builtin import BUILTIN
from cloisonne.scene import Scene
from cloisonne.scene.io.png_record import read_record
from cloisonne.studio.settings import models_of

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not (BUILTIN / "model_index.json").is_file(), reason="the built-in family is missing"),
]


@pytest.fixture(scope="module")
async def client(
    tmp_path_factory: pytest.TempPathFactory, models: tuple[str, ...], cluster: Process | None
) -> AsyncIterator[httpx.AsyncClient]:
    settings = settings_in(tmp_path_factory.mktemp("studio"), devices=("cpu",), models=models_of(models))
    async with reached(cluster) if cluster else served(settings) as client:
        while (await client.get("/v1/status")).json()["devices"][0]["state"] != "ready":
            await asyncio.sleep(0.05)
        yield client


async def submitted(client: httpx.AsyncClient, verb: str, scene: Any = None, **arguments: Any) -> str:
    body = {"verb": verb, "scene": scene, "arguments": arguments}
    answer = await client.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    return answer.json()["id"]


async def done(client: httpx.AsyncClient, verb: str, scene: Any = None, **arguments: Any) -> dict[str, Any]:
    job = await finished(client, await submitted(client, verb, scene, **arguments))
    assert job["status"] == "done", job["error"]
    return job


async def bytes_of(client: httpx.AsyncClient, job: dict[str, Any]) -> dict[str, bytes]:
    return {picture["name"]: (await client.get(picture["url"])).content for picture in job["pictures"]}


def command(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> None:
    """Run the command line in this process, which has as many threads as the worker."""
    monkeypatch.setattr(sys, "argv", ["cloisonne", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code


async def placed(
    client: httpx.AsyncClient, tmp_path: Path, image: Image.Image, name: str
) -> tuple[dict[str, str], Path]:
    """A picture on the server, and the same file here."""
    picture = (await upload(client, png(image))).json()
    path = tmp_path / f"{name}.png"
    path.write_bytes((await client.get(picture["url"])).content)
    return {"picture": picture["id"]}, path


async def test_generate_gives_the_bytes_of_the_command_line(
    client: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scene.json").write_text(json.dumps({"version": 1, **SCENE}))
    command(monkeypatch, "generate", tmp_path / "scene.json", "-o", tmp_path / "out", "--num-images", 2)
    made = await bytes_of(client, await done(client, "generate", SCENE, num_images=2))
    assert made == {name: (tmp_path / "out" / f"{name}.png").read_bytes() for name in ("0000", "0001")}


async def test_inpaint_gives_the_bytes_of_fill_and_paint(
    client: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground, ground_file = await placed(client, tmp_path, photo(96, 64), "ground")
    mask, mask_file = await placed(
        client, tmp_path, Image.fromarray(np.eye(64, 96, 8, np.uint8) * 255).resize((96, 64)), "mask"
    )
    exemplar, exemplar_file = await placed(client, tmp_path, photo(48, 48, seed=3), "exemplar")
    common = ("--steps", 2, "--seed", 7)
    command(
        monkeypatch, "fill", ground_file, "--mask", mask_file, "--phrase", "a cat", "-o", tmp_path / "fill.png", *common
    )
    job = await done(client, "inpaint", image=ground, mask=mask, phrase="a cat", steps=2, seed=7)
    assert (await bytes_of(client, job))["0000"] == (tmp_path / "fill.png").read_bytes()
    assert job["report"]["identical_outside"] is True
    box = ("--box", "0,0,0.5,0.5")
    command(monkeypatch, "paint", ground_file, *box, "--exemplar", exemplar_file, "-o", tmp_path / "paint.png", *common)
    job = await done(client, "inpaint", image=ground, box=[0.0, 0.0, 0.5, 0.5], exemplar=exemplar, steps=2, seed=7)
    assert (await bytes_of(client, job))["0000"] == (tmp_path / "paint.png").read_bytes()


async def test_edit_gives_the_bytes_of_the_command_line(
    client: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    region = {"name": "hat", "box": [0.2, 0.2, 0.8, 0.8], "edit": {"kind": "add", "phrase": "a hat"}}
    scene = SCENE | {"width": 128, "height": 128, "regions": [region]}
    (tmp_path / "scene.json").write_text(json.dumps({"version": 1, **scene}))
    command(monkeypatch, "edit", tmp_path / "scene.json", "-o", tmp_path / "pair", "--preset", "follow")
    job = await done(client, "edit", scene, preset="follow")
    assert await bytes_of(client, job) == {
        name: (tmp_path / "pair" / f"{name}.png").read_bytes() for name in ("before", "after", "difference")
    }


async def test_translate_gives_the_bytes_of_the_command_line(
    client: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, source_file = await placed(client, tmp_path, photo(128, 128), "source")
    reference, reference_file = await placed(client, tmp_path, photo(64, 64, seed=2), "reference")
    command(
        monkeypatch, "translate", source_file, "--reference", reference_file, "-o", tmp_path / "o.png", "--steps", 2
    )
    job = await done(client, "translate", image=source, reference=reference, steps=2)
    assert (await bytes_of(client, job))["0000"] == (tmp_path / "o.png").read_bytes()


async def test_sweep_and_control_give_the_bytes_of_the_command_line(
    client: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scene.json").write_text(json.dumps({"version": 1, **SCENE}))
    command(monkeypatch, "sweep", tmp_path / "scene.json", "--sweep", "guidance=1,5", "-o", tmp_path / "sheet.png")
    made = await bytes_of(client, await done(client, "sweep", SCENE, field="guidance", values=[1, 5]))
    assert made["sheet"] == (tmp_path / "sheet.png").read_bytes()
    assert list(made) == ["sheet", "0000", "0001"]
    ground, ground_file = await placed(client, tmp_path, photo(64, 64), "ground")
    command(monkeypatch, "control", ground_file, "--kind", "color", "-o", tmp_path / "map.png")
    made = await bytes_of(client, await done(client, "control", image=ground, kind="color"))
    assert made == {"control": (tmp_path / "map.png").read_bytes()}


async def test_a_model_with_add_ons_is_a_spec(client: httpx.AsyncClient, tiny_sd: Path) -> None:
    """Its LoRAs are those of the spec, and two of them act in one region."""
    details = (await client.get("/v1/models/inked")).json()["details"]
    assert details["loras"] == ["ink", "oil"]
    assert (await client.get("/v1/models/tiny")).json()["details"]["loras"] == []
    region, drawn = SCENE["regions"][0], []
    for lora in ({}, {"ink": 1.0}, {"ink": 1.0, "oil": -0.5}):
        scene = SCENE | {"method": "attention", "regions": [region | {"lora": lora} if lora else region]}
        body = {"verb": "generate", "scene": scene, "model": "inked"}
        job = await finished(client, (await client.post("/v1/jobs", json=body)).json()["id"])
        assert job["status"] == "done", job["error"]
        assert str(tiny_sd.parent) not in json.dumps(job)
        drawn.append((await bytes_of(client, job))["0000"])
    pixels = {Image.open(io.BytesIO(one)).tobytes() for one in drawn}
    assert len(pixels) == 3


async def test_explain_draws_what_each_phrase_attended_to(client: httpx.AsyncClient) -> None:
    """As strips, and as the maps that lie over the picture."""
    job = await done(client, "explain", SCENE | {"steps": 5})
    assert [picture["name"] for picture in job["pictures"]] == ["picture", "00-donut", "map-00-donut"]
    found = job["report"]["attention"]
    steps = found["regions"]["donut"]["steps"]
    assert found == {
        "count": 5,
        "window": [0, 0, 64, 64],
        "regions": {"donut": {"picture": "map-00-donut", "steps": steps}},
    }
    assert steps == sorted({0, 1, 2, 3, 4})
    stacked = Image.open(io.BytesIO((await bytes_of(client, job))["map-00-donut"]))
    assert stacked.mode == "L"
    assert stacked.height == stacked.width * len(steps)
    assert stacked.getextrema() == (0, 255)
    inside = np.asarray(stacked).reshape(len(steps), stacked.width, -1)
    side = stacked.width // 2
    assert inside[:, :side, :side].mean() > inside[:, side:, side:].mean(), "the words act where the region is"


async def test_a_picture_brings_everything_back(client: httpx.AsyncClient) -> None:
    """A generated PNG, uploaded again: its scene with all pictures, which draws the same bytes again."""
    mask = (await upload(client, png(photo(mode="L", seed=4)))).json()["id"]
    ground = (await upload(client, png(photo(64, 64)))).json()["id"]
    region = {"name": "m", "mask": {"picture": mask}, "phrase": "a cat", "feather": 0.1}
    first = await done(client, "generate", SCENE | {"background": {"picture": ground}, "regions": [region]})
    data = (await bytes_of(client, first))["0000"]
    back = (await upload(client, data)).json()
    assert back["scene_error"] is None
    assert back["scene"]["regions"][0]["phrase"] == "a cat"
    second = await done(client, "generate", back["scene"])
    assert (await bytes_of(client, second))["0000"] == data
    assert second["report"]["scene"]["background"] == back["scene"]["background"]


async def test_reports_and_metadata_name_no_paths(client: httpx.AsyncClient, tiny_sd: Path, tmp_path: Path) -> None:
    """Case 30: what a picture or an answer tells is an allow-list; no folder of this machine is in it."""
    ground = (await upload(client, png(photo(64, 64)))).json()["id"]
    scene = SCENE | {"background": {"picture": ground}, "method": "attention"}
    body = {"verb": "generate", "scene": scene, "model": "tiny"}
    job = await finished(client, (await client.post("/v1/jobs", json=body)).json()["id"])
    assert job["status"] == "done", job["error"]
    data = (await bytes_of(client, job))["0000"]
    record = read_record(data, "picture")
    for text in (json.dumps(job), record.text(), json.dumps((await client.get("/v1/models")).json())):
        assert str(tiny_sd.parent) not in text
        assert "/tmp" not in text
    assert job["report"]["scene"]["model"] == "tiny"
    assert Scene.from_dict(record.scene).regions[0].name == "donut"


async def test_events_tell_the_steps_and_show_previews(client: httpx.AsyncClient, cluster: Process | None) -> None:
    """Of several servers, one that does not draw the job itself sees its state four times a second."""
    count = 60 if cluster else 12
    job = await submitted(client, "generate", SCENE | {"steps": count})
    seen: list[bytes] = []

    async def previews() -> None:
        while (answer := await client.get(f"/v1/jobs/{job}/preview")).status_code == 404:
            await asyncio.sleep(0.01)
        seen.append(answer.content)

    watch = asyncio.create_task(previews())
    answer = await client.get(f"/v1/jobs/{job}/events")
    watch.cancel()
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = events(answer.text)
    steps = [data["step"] for name, data in found if data.get("stage") == "sampling"]
    assert steps == sorted(steps)
    assert steps[-1] == count or (cluster and len(set(steps)) > 1)
    assert {data.get("total") for name, data in found if "step" in data} == {count}
    name, last = found[-1]
    assert (name, last["status"], len(last["pictures"])) == ("done", "done", 1)
    assert seen
    preview = Image.open(io.BytesIO(seen[0]))
    assert (preview.format, preview.size) == ("WEBP", (64, 64))
    again = events((await client.get(f"/v1/jobs/{job}/events")).text)
    assert again == [("done", last)], "after the end there is the end"


async def test_a_running_job_is_cancelled_before_its_next_step(client: httpx.AsyncClient) -> None:
    job = await submitted(client, "generate", SCENE | {"steps": 200, "width": 256, "height": 256})
    waiting = await submitted(client, "generate", SCENE)
    while (await client.get(f"/v1/jobs/{job}/preview")).status_code == 404:
        await asyncio.sleep(0.01)
    assert (await client.delete(f"/v1/jobs/{job}")).json()["status"] in ("running", "cancelled")
    ended = await finished(client, job)
    assert (ended["status"], ended["pictures"], ended["error"]) == ("cancelled", [], None)
    assert (await finished(client, waiting))["status"] == "done", "the worker goes on"


async def test_a_waiting_job_is_cancelled_at_once_and_a_finished_one_stays(client: httpx.AsyncClient) -> None:
    first = await submitted(client, "generate", SCENE | {"steps": 60})
    second = await submitted(client, "generate", SCENE)
    assert (await client.delete(f"/v1/jobs/{second}")).json()["status"] == "cancelled"
    assert events((await client.get(f"/v1/jobs/{second}/events")).text)[0][0] == "cancelled"
    await client.delete(f"/v1/jobs/{first}")
    await finished(client, first)
    whole = await done(client, "generate", SCENE)
    assert (await client.delete(f"/v1/jobs/{whole['id']}")).json() == whole


async def test_a_finished_job_runs_again_and_can_be_erased(client: httpx.AsyncClient) -> None:
    first = await done(client, "generate", SCENE)
    answer = await client.post(f"/v1/jobs/{first['id']}/again", json={})
    second = await finished(client, answer.json()["id"])
    assert second["again_of"] == first["id"]
    assert await bytes_of(client, second) == await bytes_of(client, first)
    assert (await client.delete(f"/v1/jobs/{first['id']}/record")).status_code == 204
    assert (await client.get(f"/v1/jobs/{first['id']}")).status_code == 404
    assert (await client.get(first["pictures"][0]["url"])).status_code == 404
    assert (await client.get(second["pictures"][0]["url"])).status_code == 200


async def test_failures_are_the_sentence_of_the_command_line(client: httpx.AsyncClient) -> None:
    region = {"name": "edges", "box": [0, 0, 1, 1], "phrase": "a cat", "control": {"kind": "depth"}}
    ground = (await upload(client, png(photo()))).json()["id"]
    region["control"] = {"kind": "depth", "image": {"picture": ground}}
    job = await finished(client, await submitted(client, "generate", SCENE | {"regions": [region]}))
    assert job["status"] == "failed"
    assert job["error"]["kind"] == "CapabilityError"
    assert job["error"]["region"] == "edges"
    assert job["error"]["message"].startswith('Region "edges": The model "builtin"')
    assert "--adapter depth=PATH" in job["error"]["message"]


async def test_a_dry_run_says_what_is_dropped_unsupported_and_covered(client: httpx.AsyncClient) -> None:
    ground = (await upload(client, png(photo()))).json()["id"]
    regions = [
        {"name": "left", "box": [0, 0, 0.5, 1], "phrase": "a cat"},
        {
            "name": "right",
            "box": [0.25, 0, 1, 1],
            "phrase": "a dog",
            "control": {"kind": "depth", "image": {"picture": ground}},
        },
        {"name": "off", "box": [0, 0, 1, 1], "phrase": "a bird", "weight": 0.0},
        *(
            {"name": f"many {index}", "box": [0, 0, 1, 1], "phrase": "a small red balloon on the beach"}
            for index in range(20)
        ),
    ]
    answer = (await client.post("/v1/explain", json={"scene": SCENE | {"regions": regions}})).json()
    found = {region["name"]: region for region in answer["regions"]}
    assert answer["ok"] is False
    assert [one["region"] for one in answer["unsupported"]] == ["right"]
    assert "depth" in found["right"]["unsupported"]
    assert (found["left"]["coverage"], found["right"]["coverage"]) == (0.5, 0.75)
    assert (found["left"]["overlaps"]["right"], found["right"]["overlaps"]["left"]) == (0.5, 0.3333)
    assert found["off"]["active"] is False
    assert answer["dropped"]
    assert {name for name, region in found.items() if region["dropped"]} == set(answer["dropped"])
    assert answer["cost"]["steps"] == 2
    assert (answer["width"], answer["height"]) == (64, 64)
    jobs = (await client.get("/v1/jobs?limit=1")).json()["jobs"]
    assert jobs[0]["scene"].get("regions") != regions, "a dry run is no job"


async def test_a_model_describes_itself(client: httpx.AsyncClient) -> None:
    found = (await client.get("/v1/models/builtin")).json()["details"]
    assert found["defaults"]["width"] == 128
    assert found["conditions"]["exemplar"] == {"supported": True, "reason": None}
    assert found["conditions"]["lora"]["supported"] is False
    assert "--regional-lora" in found["conditions"]["lora"]["reason"]
    listed = (await client.get("/v1/models")).json()
    assert [one["id"] for one in listed["data"]] == ["builtin", "tiny", "inked"]
    assert (await client.get("/v1/models/none")).status_code == 404


async def test_openai_generations(client: httpx.AsyncClient) -> None:
    body = {"prompt": "a cat", "n": 2, "size": "64x64"}
    answer = await client.post("/v1/images/generations", json=body)
    images = [Image.open(io.BytesIO(base64.b64decode(one["b64_json"]))) for one in answer.json()["data"]]
    assert [image.size for image in images] == [(64, 64)] * 2
    urls = (await client.post("/v1/images/generations", json=body | {"n": 1, "response_format": "url"})).json()["data"]
    assert (await client.get(urls[0]["url"])).headers["content-type"] == "image/png"
    for wrong in ({"quality": "hd"}, {"size": "big"}, {"n": 0}, {"n": 17}, {"prompt": ""}, {"response_format": "svg"}):
        assert (await client.post("/v1/images/generations", json=body | wrong)).status_code == 422


@pytest.mark.parametrize("own", [True, False], ids=["its own alpha", "a mask"])
async def test_openai_edits_change_what_is_transparent(client: httpx.AsyncClient, own: bool) -> None:
    """The polarity: alpha 0 is changed, alpha 255 stays byte for byte."""
    image, clear = photo(64, 64), np.zeros((64, 64), bool)
    clear[16:48, 16:48] = True
    masked = image.copy()
    masked.putalpha(Image.fromarray(np.where(clear, 0, 255).astype(np.uint8)))
    files = {"image": ("i.png", png(masked if own else image))} | ({} if own else {"mask": ("m.png", png(masked))})
    answer = await client.post("/v1/images/edits", files=files, data={"prompt": "a cat", "n": "1"})
    assert answer.status_code == 200, answer.text
    made = Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"])))
    before, after = np.asarray(image), np.asarray(made.convert("RGB"))
    assert (before[~clear] == after[~clear]).all()
    assert (before[clear] != after[clear]).any()


async def test_openai_edits_refuse_what_they_cannot_do(client: httpx.AsyncClient) -> None:
    files = {"image": ("i.png", png(photo()))}
    opaque = await client.post("/v1/images/edits", files=files, data={"prompt": "a cat"})
    assert opaque.status_code == 422
    for data in ({"prompt": "a", "size": "128x128"}, {"prompt": "a", "n": "x"}, {}, {"prompt": "a", "style": "x"}):
        assert (await client.post("/v1/images/edits", files=files, data=data)).status_code == 422


async def test_the_schema_is_that_of_scenes(client: httpx.AsyncClient) -> None:
    found = (await client.get("/v1/schema")).json()
    assert found["scene"] == json.loads(json.dumps(Scene.json_schema()))
    assert "generate" in found["arguments"]
    assert (await client.get("/v1/openapi.json")).json()["paths"]["/v1/jobs"]["post"]["requestBody"]


async def test_the_server_process_loads_no_networks() -> None:
    program = (
        "import sys, cloisonne.studio.app, cloisonne.studio.verbs, cloisonne.pipelines.sweep, "
        "cloisonne.pipelines.editing.settings, cloisonne.pipelines.translation.settings; "
        "sys.exit(' '.join({'torch', 'diffusers', 'transformers'} & set(sys.modules)) or 0)"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    assert await process.wait() == 0
