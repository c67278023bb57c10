"""The page in a real browser: draw, generate, repaint, restore, cancel, undo, by mouse, finger and keyboard."""

import io
import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from studio_client import Process

from cloisonne.scene import Scene, from_coco
from cloisonne.scene.shapes.rle import Rle
from studio_page import NO_AXE, NO_BROWSER, Studio, forget_document, jobs, new_page, picture, pixels

pytestmark = NO_BROWSER


def test_draw_a_box_type_and_see_the_picture(studio: Studio) -> None:
    assert "token" not in studio.page.url
    studio.drag((20, 30), (80, 100))
    studio.page.keyboard.type("a cat")
    studio.generate()
    (job,) = jobs(studio)
    assert job["scene"]["regions"][0]["phrase"] == "a cat"
    np.testing.assert_allclose(np.array(job["scene"]["regions"][0]["box"]) * 128, [20, 30, 80, 100], atol=0.3)
    shown = pixels(picture(studio, job["pictures"][0]["id"]))
    for x, y in ((3, 3), (120, 9), (10, 120), (100, 64)):
        np.testing.assert_allclose(studio.pixel(x, y)[:3], shown[y, x], atol=1)


def test_brush_eraser_and_feather(studio: Studio) -> None:
    studio.region("b", (30, 40), (90, 44), phrase="a cat")
    studio.drag((40, 60), (80, 60))
    first = Rle(**studio.regions()[0]["rle"]).pixels()
    studio.page.keyboard.press("e")
    studio.drag((40, 60), (80, 60))
    studio.page.get_by_label("Feather").fill("0.2")
    (region,) = studio.regions()
    mask = Rle(**region["rle"]).pixels()
    assert mask.shape == (128, 128)
    assert (first[60, 60], mask[60, 60], mask[42, 60]) == (True, False, True)
    assert not (mask & ~first).any()
    with studio.page.expect_response("**/v1/explain") as answer:
        studio.page.get_by_label("Feather").fill("0.3")
    scene = answer.value.request.post_data_json["scene"]
    soft = Scene.from_dict(scene).regions[0].soft_mask(128, 128)
    assert 0 < soft.sum() < mask.sum()
    digits = 1 if soft.mean() < 0.1 else 0
    studio.page.get_by_text(f"{100 * soft.mean():.{digits}f} %").first.wait_for()


def test_every_tool_draws_its_shape(studio: Studio) -> None:
    studio.region("m", (5, 5), (40, 40), phrase="a cat")
    studio.region("o", (60, 5), (100, 40), phrase="a dog")
    studio.region("l", (10, 60), (50, 60), (50, 100), (10, 100), phrase="a car")
    studio.page.keyboard.press("Escape")
    studio.page.locator("#canvas").focus()
    studio.page.keyboard.press("p")
    for point in ((70, 60), (110, 60), (90, 110)):
        studio.page.mouse.click(*studio.at(*point))
    studio.page.keyboard.press("Enter")
    studio.settle()
    polygon, lasso, ellipse, box = studio.regions()
    assert len(polygon["polygon"]) == 3
    assert 4 <= len(lasso["polygon"]) <= 8
    np.testing.assert_allclose(np.array(ellipse["ellipse"]) * 128, [60, 5, 100, 40], atol=0.3)
    np.testing.assert_allclose(np.array(box["box"]) * 128, [5, 5, 40, 40], atol=0.3)


def test_move_resize_and_undo_everything(studio: Studio) -> None:
    states = [studio.regions()]
    studio.drag((20, 20), (60, 60))
    states.append(studio.regions())
    studio.page.keyboard.type("a cat")
    states.append(studio.regions())
    studio.page.keyboard.press("Escape")
    studio.page.keyboard.press("v")
    studio.drag((40, 40), (50, 45))
    states.append(studio.regions())
    np.testing.assert_allclose(np.array(states[-1][0]["box"]) * 128, [30, 25, 70, 65], atol=0.5)
    studio.drag((70, 65), (90, 95))
    states.append(studio.regions())
    np.testing.assert_allclose(np.array(states[-1][0]["box"]) * 128, [30, 25, 90, 95], atol=1)
    for state in reversed(states[:-1]):
        studio.page.keyboard.press("Control+z")
        assert studio.regions() == state
    for state in states[1:]:
        studio.page.keyboard.press("Control+Shift+Z")
        assert studio.regions() == state


def test_corners_of_a_polygon_move_and_go(studio: Studio) -> None:
    studio.region("l", (20, 20), (100, 20), (100, 100), (20, 100), phrase="a cat")
    studio.page.keyboard.press("Escape")
    before = len(studio.regions()[0]["polygon"])
    studio.page.keyboard.press("v")
    studio.settle()
    corner = next(point for point in studio.regions()[0]["polygon"] if min(point) > 0.7)
    studio.drag((corner[0] * 128, corner[1] * 128), (120, 110))
    polygon = np.array(studio.regions()[0]["polygon"]) * 128
    assert len(polygon) == before
    assert np.abs(polygon - [120, 110]).max(axis=1).min() < 1
    studio.page.mouse.dblclick(*studio.at(120, 110))
    assert len(studio.regions()[0]["polygon"]) == before - 1


def test_without_the_token_the_page_says_so(chromium: Any, process: Process) -> None:
    context = chromium.new_context()
    page = context.new_page()
    page.goto(process.url)
    page.get_by_text("open the address that the server printed").wait_for()
    context.close()


def test_numbers_are_taken_as_they_are_typed(studio: Studio) -> None:
    page = studio.page
    page.get_by_text("How it is drawn").click()
    for label, text, value in (
        ("Guidance", "1.05", 1.05),
        ("Steps", "250", 200),
        ("Seed", "12", 12),
        ("Width", "192", 192),
    ):
        page.get_by_label(label, exact=True).click()
        page.keyboard.press("Control+a")
        page.keyboard.type(text, delay=60)
        page.wait_for_timeout(400)  # the dry run answers while the field is being filled
        assert page.get_by_label(label, exact=True).input_value() == text
        page.keyboard.press("Tab")
        assert studio.doc()["scene"][label.lower()] == value
        assert float(page.get_by_label(label, exact=True).input_value()) == value


def test_control_edit_sweep_and_attention(studio: Studio) -> None:
    page = studio.page
    page.get_by_text("How it is drawn").click()
    page.get_by_label("Steps", exact=True).fill("4")
    studio.region("m", (20, 20), (100, 100), phrase="a cat")
    studio.generate()
    page.get_by_text("Conditions").click()
    page.get_by_label("Control").locator("xpath=../following-sibling::*").get_by_text("Use the one shown").first.click()
    page.get_by_role("button", name="Show the map").click()
    studio.wait()
    page.get_by_role("button", name="Remove Photo").click()
    page.get_by_role("button", name="Explore").click()
    page.get_by_label("Values").fill("1, 5")
    page.get_by_role("button", name="Draw the sheet").click()
    studio.wait()
    page.get_by_role("button", name="Explore").click()
    page.get_by_role("button", name="Draw with attention").click()
    studio.wait()
    page.get_by_label("What to do here").select_option("change")
    page.get_by_label("To", exact=True).fill("a dog")
    studio.generate()
    found = [(job["verb"], job["status"], [one["name"] for one in job["pictures"]]) for job in jobs(studio)]
    edit, attention, sweep, control, _ = found
    assert edit == ("edit", "done", ["before", "after", "difference"])
    assert attention[:2] == ("explain", "done")
    assert [name.partition("-")[0] for name in attention[2]] == ["picture", "00", "map"]
    assert sweep == ("sweep", "done", ["sheet", "0000", "0001"])
    assert control == ("control", "done", ["control"])
    assert ", after" in page.locator(".staging-title").inner_text()


def test_change_one_region_and_prove_the_rest(studio: Studio) -> None:
    studio.region("m", (5, 5), (60, 60), phrase="a cat")
    studio.region("m", (70, 60), (120, 120), phrase="a red car")
    studio.generate()
    studio.page.fill("#region-phrase", "a blue car")
    studio.page.get_by_role("button", name="Change only this").click()
    studio.wait()
    new, old = (pixels(picture(studio, job["pictures"][0]["id"])) for job in jobs(studio))
    box = Scene.from_dict(jobs(studio)[1]["scene"]).regions[0].soft_mask(128, 128) > 0
    assert (new == old).all(axis=2)[~box].all()
    assert not (new == old).all(axis=2)[box].all()
    studio.page.get_by_role("button", name="Difference").click()
    text = studio.page.locator("#difference").inner_text()
    assert text.startswith(f"No byte differs outside of the regions (of {3 * int((~box).sum())})")
    studio.page.get_by_role("button", name="Compare with").click()
    studio.page.get_by_label("Compare: the earlier").fill("1")
    studio.settle()
    np.testing.assert_allclose(studio.pixel(95, 90)[:3], old[90, 95], atol=1)
    studio.page.get_by_label("Compare: the earlier").fill("0")
    studio.settle()
    np.testing.assert_allclose(studio.pixel(95, 90)[:3], new[90, 95], atol=1)


def test_dropped_png_brings_everything_back(studio: Studio) -> None:
    studio.page.get_by_label("The whole picture").fill("on a beach")
    studio.region("m", (5, 5), (60, 60), phrase="a cat")
    studio.region("b", (70, 90), (120, 110), phrase="a doughnut")
    studio.page.get_by_label("Feather").fill("0.2")
    made = studio.regions()
    studio.generate()
    png = picture(studio, jobs(studio)[0]["pictures"][0]["id"])
    studio.page.get_by_text("Scene", exact=True).click()
    studio.page.get_by_role("button", name="New scene").click()
    assert studio.regions() == []
    studio.drop(png, "made.png")
    doc = studio.doc()["scene"]
    assert doc["regions"] == made
    assert doc["caption"] == "on a beach"
    assert doc["seed"] == jobs(studio)[0]["report"]["outputs"][0]["seed"]
    studio.generate()
    assert picture(studio, jobs(studio)[0]["pictures"][0]["id"]) == png


def test_a_photo_becomes_the_background_and_keeps_its_bytes(studio: Studio) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (96, 160, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    studio.drop(file.getvalue(), "photo.png")
    studio.page.get_by_text("160 × 96").wait_for()
    studio.region("o", (30, 20), (90, 80), phrase="a cat")
    studio.generate()
    made = pixels(picture(studio, jobs(studio)[0]["pictures"][0]["id"]))
    mask = Scene.from_dict({"regions": jobs(studio)[0]["scene"]["regions"]}).regions[0].soft_mask(96, 160) > 0
    assert (made[~mask] == noise[~mask]).all()
    studio.page.get_by_text("outside identical").wait_for()


def slow_jobs(studio: Studio) -> None:
    """Let jobs take minutes from now on."""
    studio.page.get_by_text("How it is drawn").click()
    for label, text in (("Steps", "200"), ("Width", "512")):
        studio.page.get_by_label(label, exact=True).fill(text)
        studio.page.keyboard.press("Tab")
    studio.page.get_by_text("512 × 512").wait_for()
    studio.settle()


def test_cancel(studio: Studio) -> None:
    slow_jobs(studio)
    studio.region("m", (5, 5), (60, 60), phrase="a cat")
    studio.page.keyboard.press("Control+Enter")
    studio.page.get_by_text("step").first.wait_for()
    studio.page.get_by_role("button", name="Cancel", exact=True).click()
    studio.page.wait_for_selector("#progress", state="detached")
    assert [job["status"] for job in jobs(studio)] == ["cancelled"]


def test_waiting_jobs_are_listed_and_cancelled_one_by_one(studio: Studio) -> None:
    slow_jobs(studio)
    studio.region("m", (5, 5), (60, 60), phrase="a cat")
    for _ in range(3):
        studio.page.keyboard.press("Control+Enter")
        studio.settle()
    studio.page.get_by_label("Waiting jobs").locator("li").nth(1).wait_for()
    studio.page.get_by_text("1 before it").wait_for()
    studio.page.get_by_label("Waiting jobs").get_by_role("button").last.click()
    studio.page.get_by_label("Waiting jobs").locator("li").nth(1).wait_for(state="detached")
    assert jobs(studio)[0]["status"] == "cancelled"
    for _ in range(2):
        studio.page.get_by_role("button", name="Cancel", exact=True).click()
        studio.settle()
    studio.page.wait_for_selector("#progress", state="detached")
    assert {job["status"] for job in jobs(studio)} == {"cancelled"}


def test_reload_during_a_job(studio: Studio) -> None:
    studio.page.get_by_text("How it is drawn").click()
    studio.page.get_by_label("Steps", exact=True).fill("120")
    studio.region("m", (5, 5), (60, 60), phrase="a cat")
    before = studio.doc()
    studio.page.keyboard.press("Control+Enter")
    studio.page.wait_for_selector("#progress")
    studio.page.reload()
    studio.ready()
    assert studio.doc() == before
    studio.page.wait_for_selector(".thumb[aria-pressed=true]", timeout=120_000)
    assert [job["status"] for job in jobs(studio)] == ["done"]


def test_layers(studio: Studio) -> None:
    for index, phrase in enumerate(("a cat", "a dog", "a car")):
        studio.region("m", (5 + 30 * index, 5), (40 + 30 * index, 60), phrase=phrase)
    page = studio.page
    names = lambda: [region["phrase"] for region in studio.regions()]  # noqa: E731
    assert names() == ["a car", "a dog", "a cat"]
    page.get_by_role("button", name="Move down").click()
    assert names() == ["a dog", "a car", "a cat"]
    page.get_by_role("button", name="Duplicate").click()
    assert names() == ["a dog", "a car", "a car", "a cat"]
    page.get_by_role("button", name="Delete").click()
    page.locator(".row-name", has_text="a dog").click()
    page.get_by_role("button", name="Rename").click()
    page.locator("input.row-name").fill("pet <b>")
    page.locator("input.row-name").press("Enter")
    page.get_by_role("button", name="Hide pet <b>").click()
    page.get_by_role("button", name="Lock pet <b>").click()
    studio.settle()
    assert studio.regions()[0]["name"] == "pet <b>"
    assert page.get_by_role("button", name="Delete").is_disabled()
    with page.expect_response(lambda one: one.url.endswith("/v1/jobs")) as answer:
        page.keyboard.press("Control+Enter")
    assert [region.get("weight") for region in answer.value.json()["scene"]["regions"]] == [0, None, None]
    studio.wait()


def test_text_is_never_markup(studio: Studio) -> None:
    studio.region("m", (5, 5), (60, 60), phrase='<img src=x onerror="window.pwned=1">')
    studio.page.get_by_label("The whole picture").fill("<script>window.pwned=1</script>")
    studio.settle()
    assert studio.page.evaluate("window.pwned") is None
    assert studio.page.locator(".side img").count() == 0


def test_keyboard_only(studio: Studio) -> None:
    page = studio.page
    page.keyboard.press("Tab")
    seen = []
    for _ in range(60):
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.getAttribute('aria-label')"))
        if seen[-1] == "canvas":
            break
        page.keyboard.press("Tab")
    assert seen[-1] == "canvas", seen
    page.keyboard.press("Enter")
    studio.settle()
    page.keyboard.type("a cat")
    page.keyboard.press("Escape")
    page.locator("#canvas").focus()
    before = np.array(studio.regions()[0]["box"]) * 128
    for key in ("ArrowRight", "Shift+ArrowDown", "Alt+ArrowRight"):
        page.keyboard.press(key)
    np.testing.assert_allclose(np.array(studio.regions()[0]["box"]) * 128 - before, [1, 10, 2, 10], atol=0.01)
    studio.generate()
    assert len(jobs(studio)[0]["pictures"]) == 1


def test_focus_is_visible_everywhere(studio: Studio) -> None:
    studio.region("m", (5, 5), (60, 60), phrase="a cat")
    page = studio.page
    page.locator("body").click(position={"x": 640, "y": 20})
    for _ in range(70):
        page.keyboard.press("Tab")
        found = page.evaluate(
            """() => {
                const one = document.activeElement;
                const of = (node) => node && getComputedStyle(node).outlineStyle;
                return [one.outerHTML.slice(0, 120), of(one), of(one.closest(".file-link"))];
            }"""
        )
        assert found[0].startswith("<body") or "none" not in (found[2] or found[1]), found


def test_finger_draws_and_two_fingers_zoom(chromium: Any, process: Process) -> None:
    forget_document(process)
    studio = new_page(chromium, process, viewport={"width": 1024, "height": 768}, has_touch=True)
    touch = studio.page.context.new_cdp_session(studio.page)

    def send(kind: str, *points: tuple[float, float]) -> None:
        touches = [{"x": x, "y": y, "id": index} for index, (x, y) in enumerate(points)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    send("touchStart", studio.at(20, 20))
    send("touchMove", studio.at(50, 50))
    send("touchMove", studio.at(80, 70))
    send("touchEnd")
    np.testing.assert_allclose(np.array(studio.regions()[0]["box"]) * 128, [20, 20, 80, 70], atol=1)
    scale = float(studio.page.get_attribute("#canvas", "data-view").split()[0])
    x, y = studio.at(64, 64)
    send("touchStart", (x - 20, y), (x + 20, y))
    send("touchMove", (x - 60, y), (x + 60, y))
    send("touchEnd")
    assert float(studio.page.get_attribute("#canvas", "data-view").split()[0]) > 2 * scale
    assert len(studio.regions()) == 1
    assert studio.faults == []
    studio.page.context.close()


def test_the_brush_of_a_pen_follows_its_pressure(studio: Studio) -> None:
    pen = studio.page.context.new_cdp_session(studio.page)
    sizes = []
    for force in (0.1, 1.0):
        studio.page.locator("#canvas").focus()
        studio.page.keyboard.press("Escape")
        studio.page.keyboard.press("b")
        for kind, x in (("mousePressed", 30), ("mouseMoved", 60), ("mouseMoved", 90), ("mouseReleased", 90)):
            left, top = studio.at(x, 64)
            point = {"x": left, "y": top, "force": force, "pointerType": "pen"}
            pen.send(
                "Input.dispatchMouseEvent", {"type": kind, "button": "left", "buttons": 1, "clickCount": 1, **point}
            )
        sizes.append(Rle(**studio.regions()[0]["rle"]).pixels().sum())
    assert sizes[1] > 2 * sizes[0] > 0


def test_a_saved_scene_opens_again_with_its_pictures(studio: Studio, tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (160, 96), "red").save(file, "PNG")
    studio.drop(file.getvalue(), "photo.png")
    studio.region("m", (30, 20), (90, 80), phrase="a cat")
    made = studio.regions()
    studio.page.get_by_text("Scene", exact=True).click()
    with studio.page.expect_download() as download:
        studio.page.get_by_role("button", name="Save scene as JSON").click()
    download.value.save_as(tmp_path / "scene.json")
    assert Scene.from_dict(json.loads((tmp_path / "scene.json").read_text())).background is not None
    studio.page.get_by_text("Scene", exact=True).click()
    studio.page.get_by_role("button", name="New scene").click()
    studio.page.get_by_text("128 × 128").wait_for()
    studio.page.set_input_files("#open-file", tmp_path / "scene.json")
    studio.page.get_by_text("160 × 96").wait_for()
    assert studio.regions() == made


def test_coco_annotations_go_out_and_come_back(studio: Studio, tmp_path: Path) -> None:
    studio.region("m", (5, 5), (60, 60), phrase="a cat")
    studio.region("b", (70, 90), (120, 110), phrase="a doughnut")
    studio.region("l", (70, 10), (110, 10), (110, 50), (70, 50), phrase="a car")
    made = studio.regions()
    menu = studio.page.get_by_text("Scene", exact=True)
    menu.click()
    with studio.page.expect_download() as download:
        studio.page.get_by_role("button", name="Save regions as COCO").click()
    file = tmp_path / "annotations.json"
    download.value.save_as(file)
    scene, warnings = from_coco(json.loads(file.read_text()))
    assert warnings == ()
    for region, own in zip(scene.regions, made, strict=True):
        mask = Scene.from_dict({"regions": [own]}).regions[0].soft_mask(128, 128)
        np.testing.assert_array_equal(region.soft_mask(128, 128), mask)
        assert region.phrase == own["phrase"]
    menu.click()
    studio.page.get_by_role("button", name="New scene").click()
    studio.page.set_input_files("#open-file", file)
    studio.page.get_by_text("3 regions.").wait_for()
    for again, own in zip(studio.regions(), made, strict=True):
        assert again["phrase"] == own["phrase"]
        masks = [Scene.from_dict({"regions": [one]}).regions[0].soft_mask(128, 128) for one in (again, own)]
        np.testing.assert_array_equal(*masks)


def test_wheel_zooms_to_the_cursor_and_space_pans(studio: Studio) -> None:
    fitted = studio.page.get_attribute("#canvas", "data-view")
    x, y = studio.at(32, 90)
    studio.page.mouse.move(x, y)
    studio.page.mouse.wheel(0, -400)
    studio.settle()
    assert studio.page.get_attribute("#canvas", "data-view") != fitted
    assert studio.at(32, 90) == pytest.approx((x, y), abs=1)
    studio.page.locator("#canvas").focus()
    studio.page.keyboard.down("Space")
    studio.drag((32, 90), (42, 95))
    studio.page.keyboard.up("Space")
    assert studio.at(32, 90) != pytest.approx((x, y), abs=5)
    studio.page.keyboard.press("z")
    studio.settle()
    assert studio.page.get_attribute("#canvas", "data-view") == fitted
    assert studio.regions() == []


HOSTILE = """<!doctype html><title>hostile</title><body><script>
const studio = %s;
const tries = {
  read: () => fetch(studio + "/v1/jobs", { credentials: "include" }).then((one) => one.text()),
  blind: () => fetch(studio + "/v1/jobs", { credentials: "include", mode: "no-cors", method: "POST",
    headers: { "Content-Type": "text/plain" }, body: JSON.stringify({ verb: "generate", scene: { caption: "x" } }) })
    .then((one) => one.type),
  json: () => fetch(studio + "/v1/jobs", { credentials: "include", method: "POST",
    headers: { "Content-Type": "application/json" }, body: '{"verb": "generate", "scene": {"caption": "x"}}' })
    .then((one) => one.text()),
  events: () => new Promise((resolve, reject) => { const source = new EventSource(studio + "/v1/jobs/x/events",
    { withCredentials: true }); source.onopen = resolve; source.onerror = reject; }),
  picture: () => new Promise((resolve, reject) => { const image = new Image(); image.onload = resolve;
    image.onerror = reject; image.src = studio + "/v1/pictures/%s"; }),
  frame: () => new Promise((resolve) => { const frame = document.createElement("iframe");
    frame.onload = () => { try { resolve(frame.contentDocument ? "none" : "other"); } catch { resolve("other"); } };
    frame.src = studio + "/"; document.body.append(frame); }),
};
window.found = {};
Promise.all(Object.entries(tries).map(([name, go]) => go().then(
  (answer) => { found[name] = ["got", String(answer)]; }, (error) => { found[name] = ["refused", String(error)]; })))
  .then(() => { window.complete = true; });
</script>"""


def test_a_hostile_page_on_another_origin_gets_nothing(studio: Studio, tmp_path: Path) -> None:
    studio.region("m", (5, 5), (60, 60), phrase="a cat")
    studio.generate()
    (job,) = jobs(studio)
    (tmp_path / "index.html").write_text(HOSTILE % (json.dumps(studio.server.url), job["pictures"][0]["id"]))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    hostile = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=hostile.serve_forever, daemon=True).start()
    try:
        page = studio.page.context.new_page()  # the same browser profile, with the cookie
        page.goto(f"http://127.0.0.1:{hostile.server_port}/")
        page.wait_for_function("window.complete === true")
        found = page.evaluate("window.found")
        frames = [frame for frame in page.frames if frame != page.main_frame]
        assert all(frame.query_selector("#studio") is None for frame in frames)
        page.close()
    finally:
        hostile.shutdown()
        hostile.server_close()
    for name in ("read", "json", "events", "picture"):
        assert found[name][0] == "refused", (name, found)
    assert found["blind"] in (["got", "opaque"], ["refused", "TypeError: Failed to fetch"])
    assert len(jobs(studio)) == 1


@NO_AXE
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(studio: Studio, scheme: str) -> None:
    studio.page.emulate_media(color_scheme=scheme)
    studio.region("m", (5, 5), (60, 60), phrase="a cat")
    studio.generate()
    for summary in studio.page.locator("details > summary").all():
        if summary.locator("..").get_attribute("open") is None and summary.inner_text() != "Scene":
            summary.click()
    studio.settle()
    assert studio.violations() == []
    studio.page.get_by_role("button", name="Help and keys").click()
    studio.settle()
    assert studio.violations() == []
