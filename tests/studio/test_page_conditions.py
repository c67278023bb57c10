"""The page in a real browser: LoRAs, presets, learned concepts, attention, elements, and the document on the server."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lora_files import lora_weights, peft_file
from PIL import Image
from studio_client import Process

from cloisonne.scene import Scene, to_elements
from studio_page import AXE, NO_BROWSER, Studio, jobs, new_page, picture, pixels

pytestmark = NO_BROWSER
ELEMENTS = [
    {"type": "obj", "bbox": [100, 100, 500, 500], "desc": "a cat"},
    {"type": "obj", "bbox": [300, 200, 900, 950], "desc": "a red car"},
]


@pytest.fixture(scope="module")
def server_arguments(tmp_path_factory: pytest.TempPathFactory, tiny_sd: Path) -> tuple[str, ...]:
    """The built-in model, and one with two LoRAs."""
    folder = tmp_path_factory.mktemp("inked")
    made = lora_weights(tiny_sd, text=False)
    loras = {name: str(peft_file(folder / f"{name}.safetensors", made)) for name in ("ink", "oil")}
    (folder / "inked.json").write_text(json.dumps({"source": str(tiny_sd), "regional_lora": loras}))
    return ("--model", "builtin", "--model", str(folder / "inked.json"))


def few_steps(studio: Studio, count: int = 4) -> None:
    """Draw in few steps from now on."""
    studio.page.get_by_text("How it is drawn").click()
    studio.page.get_by_label("Steps", exact=True).fill(str(count))


def dropped(studio: Studio, data: Any, name: str) -> None:
    studio.drop(json.dumps(data).encode(), name, "application/json")


def saved(studio: Studio, item: str) -> bytes:
    """The file that an item of the menu saves."""
    studio.page.get_by_text("Scene", exact=True).click()
    with studio.page.expect_download() as download:
        studio.page.get_by_role("button", name=item).click()
    return Path(download.value.path()).read_bytes()


def test_what_a_phrase_attended_to_lies_over_the_picture(studio: Studio) -> None:
    few_steps(studio)
    studio.region("m", (5, 5), (60, 60), phrase="a cat")
    studio.region("m", (70, 60), (120, 120), phrase="a red car")
    studio.page.get_by_role("button", name="Explore").click()
    studio.page.get_by_role("button", name="Draw with attention").click()
    studio.wait()
    (job,) = jobs(studio)
    shown = pixels(picture(studio, job["pictures"][0]["id"]))
    studio.page.wait_for_selector("#canvas[data-heat=true]")
    choice, step = studio.page.get_by_label("Attention of"), studio.page.get_by_label("Step", exact=True)
    assert choice.locator("option").all_inner_texts() == ["no region", "a red car", "a cat"]
    seen = {}
    for name in ("a red car", "a cat"):
        choice.select_option(label=name)
        studio.settle()
        for place in (0, int(step.get_attribute("max"))):
            step.fill(str(place))
            studio.page.wait_for_function("new Promise((done) => setTimeout(() => done(true), 100))")
            studio.settle()
            seen[name, place] = [studio.pixel(x, y)[:3] for x, y in ((32, 32), (95, 90), (10, 110))]
    assert len({str(pixel) for pixel in seen.values()}) == 4, "each region and step has its own map"
    assert studio.page.get_by_text("step 4 of 4").is_visible()
    studio.region("m", (5, 80), (50, 120), phrase="a dog")
    assert studio.pixel(32, 32, layer=1)[3] == 0, "the colour of a region would hide its map"
    assert studio.pixel(30, 100, layer=1)[3] > 0, "a new region has no map"
    choice.select_option(label="no region")
    studio.page.wait_for_selector("#canvas[data-heat=false]")
    studio.settle()
    for x, y in ((32, 32), (95, 90), (110, 10)):
        np.testing.assert_allclose(studio.pixel(x, y)[:3], shown[y, x], atol=1)
    assert not AXE.exists() or studio.violations() == []
    assert studio.page.locator(".thumb").count() == 3, "the maps themselves are no pictures of the strip"


def test_a_mask_goes_out_and_comes_back(studio: Studio, tmp_path: Path) -> None:
    studio.region("o", (20, 30), (90, 101), phrase="a cat")
    studio.page.get_by_text("Shape", exact=True).click()
    with studio.page.expect_download() as download:
        studio.page.get_by_role("button", name="Export mask").click()
    mask = np.asarray(Image.open(download.value.path()).convert("L"))
    made = Scene.from_dict({"regions": studio.regions()}).regions[0].soft_mask(128, 128)
    np.testing.assert_array_equal(mask == 255, made == 1)
    download.value.save_as(tmp_path / "dog.png")
    studio.page.get_by_label("Import mask").set_input_files(tmp_path / "dog.png")
    studio.page.locator(".row-name", has_text="dog").wait_for()
    studio.page.fill("#region-phrase", "a dog")

    # An answer about the document of before may still be on its way.
    def explained(one: Any) -> bool:
        return one.url.endswith("/v1/explain") and '"feather":0.1' in (one.request.post_data or "")

    with studio.page.expect_response(explained) as answer:
        studio.page.get_by_label("Feather").fill("0.1")
    dog, cat = answer.value.json()["regions"]
    assert dog["overlaps"] == {cat["name"]: pytest.approx(1, abs=0.01)}, "both cover the same pixels"


def test_a_picture_is_pasted(studio: Studio) -> None:
    studio.page.evaluate(
        """() => new Promise((done) => {
            const canvas = new OffscreenCanvas(96, 64);
            canvas.getContext("2d").fillRect(0, 0, 96, 64);
            canvas.convertToBlob({ type: "image/png" }).then((blob) => {
                const clipboardData = new DataTransfer();
                clipboardData.items.add(new File([blob], "pasted.png", { type: "image/png" }));
                window.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
                done();
            });
        })"""
    )
    studio.page.get_by_text("96 × 64").wait_for()
    assert "picture" in studio.doc()["scene"]["background"]


def test_shapes_snap_to_the_models_grid(studio: Studio) -> None:
    studio.page.wait_for_function(
        "() => performance.getEntriesByType('resource').some((one) => one.name.endsWith('/v1/models/builtin'))"
    )
    studio.page.get_by_role("button", name="Snap to the model's grid").click()
    studio.drag((21.3, 30.9), (77.2, 101.4))
    with studio.server.client() as client:
        grid = client.get("/v1/models/builtin").json()["details"]["grid"]
    box = np.array(studio.regions()[0]["box"]) * 128 / grid
    np.testing.assert_allclose(box, box.round(), atol=1e-3)
    np.testing.assert_allclose(box * grid, [21.3, 30.9, 77.2, 101.4], atol=grid / 2 + 0.3)


def test_elements_come_in_and_go_out(studio: Studio) -> None:
    dropped(studio, ELEMENTS, "elements.json")
    car, cat = studio.regions()
    assert (cat["box"], cat["phrase"]) == ([0.1, 0.1, 0.5, 0.5], "a cat")
    assert (car["box"], car["phrase"]) == ([0.2, 0.3, 0.95, 0.9], "a red car")
    assert studio.doc()["scene"]["overlap"] == "priority"
    found = json.loads(saved(studio, "Save regions as ComfyUI elements"))
    assert found["compositional_deconstruction"]["elements"] == ELEMENTS
    dropped(studio, found, "again.json")
    assert studio.regions() == [car, cat]
    scene, _ = to_elements(Scene.from_dict(found))
    assert scene == found


def test_the_document_is_there_in_another_browser(studio: Studio, chromium: Any, process: Process) -> None:
    with studio.page.expect_response(lambda one: one.url.endswith("/v1/document") and one.request.method == "PUT"):
        studio.region("m", (5, 5), (60, 60), phrase="a cat")
    with process.client() as client:
        while client.get("/v1/document").json()["document"]["scene"]["regions"] != studio.regions():
            studio.settle()
    other = new_page(chromium, process)
    assert other.page.locator(".row-name").all_inner_texts()[0].startswith("a cat")
    assert other.page.get_by_role("button", name="Undo").is_disabled()
    with other.page.expect_response(lambda one: one.url.endswith("/v1/document") and one.request.method == "PUT"):
        other.page.get_by_label("The whole picture").fill("on a beach")
    mine = other.doc()
    other.page.context.close()
    studio.page.reload()
    studio.ready()
    studio.page.wait_for_function("document.querySelector('textarea').value === 'on a beach'")
    studio.page.get_by_label("The whole picture").fill("in a park")
    assert studio.doc()["scene"]["regions"] == mine["scene"]["regions"]
    assert other.faults == []


def test_several_loras_in_one_region(studio: Studio) -> None:
    studio.region("m", (5, 5), (60, 60), phrase="a cat")
    studio.page.get_by_text("Conditions").click()
    assert studio.page.get_by_label("Add a LoRA").is_disabled()
    with studio.page.expect_response("**/v1/models/inked"):
        studio.page.locator("header select").select_option("inked")
    few_steps(studio, 2)
    for name in ("ink", "oil"):
        studio.page.get_by_label("Add a LoRA").select_option(name)
    studio.page.get_by_label("LoRA oil", exact=True).fill("-0.5")
    assert studio.regions()[0]["lora"] == {"ink": 1, "oil": -0.5}
    studio.generate()
    (job,) = jobs(studio)
    assert (job["model"], job["status"]) == ("inked", "done"), job["error"]
    assert job["scene"]["regions"][0]["lora"] == {"ink": 1, "oil": -0.5}
    studio.page.get_by_role("button", name="Remove the LoRA ink").click()
    assert studio.regions()[0]["lora"] == {"oil": -0.5}
    studio.page.get_by_role("button", name="Remove the LoRA oil").click()
    assert "lora" not in studio.regions()[0]


def test_single_settings_of_a_preset(studio: Studio) -> None:
    studio.region("m", (20, 20), (100, 100), phrase="a cat")
    studio.page.get_by_text("Conditions").click()
    studio.page.get_by_label("What to do here").select_option("change")
    studio.page.get_by_label("To", exact=True).fill("a dog")
    few_steps(studio, 3)
    studio.page.get_by_text("Its settings").click()
    assert studio.page.get_by_label("Self attention share").get_attribute("placeholder") == "0.4"
    studio.page.get_by_label("Self attention share").fill("0.7")
    studio.page.get_by_label("Follow", exact=True).uncheck()
    studio.page.get_by_label("Boost").select_option("additive")
    changes = {"preset": "follow", "self_attention_share": 0.7, "follow": False}
    assert studio.doc()["scene"]["editing"] == changes | {"boost": "additive"}
    studio.page.get_by_text("Its settings, 3 changed").wait_for()
    assert not AXE.exists() or studio.violations() == []
    studio.page.get_by_label("Boost").select_option("none")
    studio.generate()
    (job,) = jobs(studio)
    assert job["status"] == "done", job["error"]
    assert job["report"]["scene"]["editing"] == changes
    for label, field in (("Self attention share", "self_attention_share"), ("Follow", "follow")):
        box = studio.page.get_by_label(label, exact=True)
        box.check() if field == "follow" else box.fill("")
    assert "editing" not in studio.doc()["scene"]


def test_an_exemplar_is_reduced_to_its_pooled_features(studio: Studio, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), "red").save(tmp_path / "subject.png")
    studio.region("m", (20, 20), (100, 100), phrase="")
    studio.page.get_by_text("Conditions").click()
    studio.page.get_by_label("Exemplar: a picture of the object").set_input_files(tmp_path / "subject.png")
    pooled = studio.page.get_by_label("Pooled features only")
    pooled.check()
    assert studio.regions()[0]["exemplar"]["bottleneck"] is True
    assert not AXE.exists() or studio.violations() == []
    pooled.uncheck()
    assert "bottleneck" not in studio.regions()[0]["exemplar"]


def test_a_control_is_left_out_of_the_null_branch(studio: Studio, tmp_path: Path) -> None:
    Image.new("RGB", (128, 128), "white").save(tmp_path / "edges.png")
    studio.region("m", (20, 20), (100, 100), phrase="")
    studio.page.get_by_text("Conditions").click()
    studio.page.get_by_label("A canny map").set_input_files(tmp_path / "edges.png")
    amplified = studio.page.get_by_label("Amplified by guidance")
    native = amplified.is_checked()
    amplified.set_checked(not native)
    assert studio.regions()[0]["control"]["conditional_only"] is not native
    assert not AXE.exists() or studio.violations() == []
    amplified.set_checked(native)
    assert "conditional_only" not in studio.regions()[0]["control"]


def test_a_learned_concept_is_saved_and_used_again(studio: Studio, tmp_path: Path) -> None:
    page = studio.page
    noise = np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    studio.drop(file.getvalue(), "photo.png")
    (tmp_path / "subject.png").write_bytes(file.getvalue())
    studio.region("m", (20, 20), (100, 100), phrase="")
    page.get_by_text("Conditions").click()
    page.get_by_label("Concept: transfer this subject or style").set_input_files(tmp_path / "subject.png")
    page.get_by_label("Keep structure").wait_for()
    few_steps(studio, 2)
    page.get_by_label("How concepts are transferred").select_option("learned")
    page.get_by_text("Its settings").click()
    page.get_by_label("Rounds", exact=True).fill("2")
    page.get_by_label("Batch").fill("1")
    studio.generate()
    (job,) = jobs(studio)
    assert job["status"] == "done", job["error"]
    page.get_by_role("button", name="Use what was learned").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save it").click()
    learned = Path(download.value.path()).read_bytes()
    uri = studio.regions()[0]["concept"]["file"]
    page.get_by_role("button", name="Remove it").click()
    assert "file" not in studio.regions()[0]["concept"]
    (tmp_path / "concept.safetensors").write_bytes(learned)
    page.locator("input[accept='.safetensors']").set_input_files(tmp_path / "concept.safetensors")
    page.get_by_role("button", name="Remove Concept").click()
    assert studio.regions()[0]["concept"] == {"file": uri}
    studio.generate()
    again = jobs(studio)[0]
    assert again["status"] == "done", again["error"]
    page.locator("input[accept='.safetensors']").set_input_files(tmp_path / "subject.png")
    page.get_by_text("subject.png is no learned concept").wait_for()


def test_a_closed_tab_loses_nothing_and_old_pictures_are_found(studio: Studio, chromium: Any, process: Process) -> None:
    studio.region("m", (5, 5), (60, 60), phrase="a cat")
    few_steps(studio, 60)
    studio.page.keyboard.press("Control+Enter")
    studio.page.wait_for_selector("#progress")
    before = studio.doc()
    studio.page.close()
    with process.client() as client:
        waiting = [client.post("/v1/jobs", json={"verb": "generate", "scene": {}}).json()["id"] for _ in range(45)]
        for job in waiting:
            client.delete(f"/v1/jobs/{job}")
    studio.page = studio.page.context.new_page()
    studio.open()
    assert studio.doc() == before
    studio.page.get_by_role("button", name="Older").click()
    studio.page.wait_for_selector(".thumb")
    first = next(job for job in reversed(jobs(studio)) if job["pictures"] or job["status"] == "running")
    assert first["scene"]["regions"][0]["phrase"] == "a cat"
    assert studio.page.get_by_role("button", name="Older").count() == 0
