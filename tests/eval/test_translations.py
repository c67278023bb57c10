"""translations-v2: the items, their figures, rows of all kinds, and runs that resume."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cloisonne.bench.concepts import Concepts
from cloisonne.bench.settings import Settings
from cloisonne.bench.translations import translations
from cloisonne.errors import CapabilityError, OutputError, SceneError
from cloisonne.eval.items import Items, open_folder
from cloisonne.eval.judge import Judge
from cloisonne.eval.metrics.bootstrap import Sample, mean
from cloisonne.eval.translation_items import TranslationItem, places, translation_item
from cloisonne.eval.translations import MEASURES, Translated, evaluate_translations
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.translation.settings import translating_of
from cloisonne.pipelines.translation.translate import translate
from cloisonne.world.glyphs import HELD_OUT
from cloisonne.world.picture import STYLES


def test_items_are_determined_by_their_index() -> None:
    for index in range(6):
        item, again = translation_item(index), translation_item(index)
        assert np.array_equal(item.truth, again.truth)
        assert (item.before, item.after) == (again.before, again.after)
        assert item.task == ("style", "subject")[index % 2]
        assert not np.array_equal(item.source, item.truth)
    assert [translation_item(2 * k).wanted for k in range(7)] == list(STYLES[1:])


@pytest.mark.parametrize("task", [0, 1])
@pytest.mark.parametrize("grid", [0, 1])
def test_a_hundred_items_are_ten_sources_by_ten_references(task: int, grid: int) -> None:
    found = [places(2 * j + task) for j in range(100 * grid, 100 * grid + 100)]
    numbers = range(10 * grid, 10 * grid + 10)
    assert sorted(found) == [(source, reference) for source in numbers for reference in numbers]
    for start in range(0, 100, 10):
        sources, references = zip(*found[start : start + 10], strict=True)
        assert sorted(sources) == sorted(references) == list(numbers)


@pytest.mark.parametrize("task", [0, 1])
def test_what_items_of_a_grid_share_is_the_same(task: int) -> None:
    first, same_source, same_reference = (translation_item(2 * j + task) for j in (0, 10, 19))
    assert np.array_equal(first.source, same_source.source)
    assert first.before == same_source.before
    assert not np.array_equal(first.reference, same_source.reference)
    assert np.array_equal(first.reference, same_reference.reference)
    assert first.wanted == same_reference.wanted
    assert not np.array_equal(first.source, same_reference.source)


def test_references_of_a_grid_are_all_styles_and_ten_glyphs() -> None:
    assert {translation_item(2 * j).wanted for j in range(10)} == set(STYLES[1:])
    glyphs = [translation_item(2 * j + 1).wanted for j in range(10)]
    assert len(set(glyphs)) == 10
    assert set(glyphs) <= set(HELD_OUT)


def test_captions_name_the_style_at_the_end() -> None:
    for j in range(10):
        item = translation_item(2 * j)
        assert item.after.startswith(item.before)
        assert item.after.endswith(item.wanted)


def test_a_subject_changes_only_in_its_place() -> None:
    item = translation_item(1)
    changed = np.abs(item.source.astype(int) - item.truth).max(-1) > 0
    x0, y0, x1, y1 = (round(v * 128) for v in item.box)
    near = np.zeros_like(changed)
    near[max(0, y0 - 16) : y1 + 16, max(0, x0 - 16) : x1 + 16] = True
    assert changed.any()
    assert not changed[~near].any()


def test_copies_and_truth_are_where_they_should_be(tmp_path: Path) -> None:
    judge, calls = Judge.load(BUILTIN / "judge"), []

    def truth(item: TranslationItem, seed: int) -> Translated:
        calls.append(item.index)
        return Translated(image=item.truth, rows=3, seconds=1.0)

    text = evaluate_translations({"known": truth}, judge, lambda rgb: rgb, tmp_path, limit=2, report=lambda line: None)
    lines = {line.split("|")[1].strip(): line for line in text.split("### subject")[1].splitlines() if "|" in line}
    assert lines["known"].split("|")[2].startswith(" 100.0")
    assert "0.0 [–, n < 10]" in (tmp_path / "translations.md").read_text()
    lines: list[str] = []
    again = evaluate_translations({"known": truth}, judge, lambda rgb: rgb, tmp_path, limit=2, report=lines.append)
    assert lines == ["4 of 4 pairs"]
    evaluate_translations({"known": truth}, judge, lambda rgb: rgb, tmp_path / "new", limit=2, report=lines.append)
    assert lines[1:] == [f"{done} of 4 pairs" for done in (1, 2, 3, 4)]
    del calls[4:]
    assert (again, calls) == (text, [0, 1, 2, 3])


def test_intervals_are_over_sources_and_references(tmp_path: Path) -> None:
    """What differs by reference alone is as uncertain as ten of them make it, not as a hundred pairs would."""
    open_folder(tmp_path, {"benchmark": "translations-v2", "seed": 0})
    worth = np.random.default_rng(0).random(10)
    for row in ("copy-source", "copy-reference", "truth-vae"):
        items = Items(tmp_path / f"items-{row}.jsonl")
        for index in range(200):
            figures = dict.fromkeys(MEASURES, float(worth[places(index)[1]]))
            items.add(index, figures | {"rows": None, "seconds": None})
    text = evaluate_translations({}, Judge.load(BUILTIN / "judge"), lambda rgb: rgb, tmp_path, limit=100)
    assert "95 % interval, bootstrapped over sources and references" in text
    ten = mean(Sample(worth, np.ones(10, int)))
    assert ten is not None
    line = next(line for line in text.splitlines() if line.startswith("| copy-source"))
    value, low, high = (float(number) / 100 for number in re.findall(r"[\d.]+", line.split("|")[3]))
    assert value == pytest.approx(ten.value, abs=1e-3)
    assert high - low == pytest.approx(ten.high - ten.low, rel=0.1)


def test_a_folder_of_other_items_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"benchmark": "translations-v1", "seed": 0}))
    with pytest.raises(OutputError):
        evaluate_translations({}, Judge.load(BUILTIN / "judge"), lambda rgb: rgb, tmp_path, limit=1)


def test_rows_with_prompts_generate_both_tasks(tmp_path: Path) -> None:
    settings = Settings(out=tmp_path, limit=1, save_pictures=True, report=lambda line: None)
    translations(settings, rows=["control", "quick=p2p,inversion=direct"])
    for row in ("control", "quick"):
        figures = [json.loads(line) for line in (tmp_path / f"items-{row}.jsonl").read_text().splitlines()]
        assert len(figures) == 2
        assert all(one["rows"] > 0 and one["seconds"] > 0 for one in figures)
        assert len(list((tmp_path / "pictures" / row).iterdir())) == 2


def test_unknown_rows_are_refused(tmp_path: Path) -> None:
    cases = (
        ("slow", "no preset"),
        ("a=fast,b", "The row"),
        ("copy-source=fast", "another name"),
        ("a=control,steps=2", "take none"),
        ("a=p2p,rounds=2", 'no "rounds"'),
        ("a=p2p,inversion=slow", "null-text"),
    )
    for row, message in cases:
        with pytest.raises(SceneError, match=message):
            translations(Settings(out=tmp_path, limit=1), rows=[row])


def test_a_model_without_edges_has_no_row_of_control(tmp_path: Path, tiny_sd: Path) -> None:
    with pytest.raises(CapabilityError, match="cannot do control of kind canny"):
        translations(Settings(out=tmp_path / "out", model=str(tiny_sd), limit=1), rows=["control"])
    assert not (tmp_path / "out").exists()


def test_a_reference_is_learned_once_and_every_row_reports_its_cost(tmp_path: Path, tiny: Model) -> None:
    settings = translating_of("vct", None, {"rounds": 2, "batch": 3, "patience": 0})
    concepts = Concepts(tmp_path / "concepts", tiny, 5)
    first, shared, other = (concepts.of(translation_item(2 * j), settings) for j in (1, 10, 2))
    assert first.rows == 6
    assert first.seconds > 0
    assert torch.equal(first.concept.vectors, shared.concept.vectors)
    assert (first.rows, first.seconds) == (shared.rows, shared.seconds)
    assert not torch.equal(first.concept.vectors, other.concept.vectors)
    longer = concepts.of(
        translation_item(2), translating_of("vct-code", None, {"rounds": 3, "batch": 3, "patience": 0})
    )
    assert longer.rows == 9
    assert len(list((tmp_path / "concepts").glob("*.safetensors"))) == 3


def test_learning_resumes_where_it_was_stopped(tmp_path: Path, tiny: Model) -> None:
    settings = translating_of("vct", None, {"rounds": 60, "batch": 1, "patience": 0})
    whole = Concepts(tmp_path / "whole", tiny, 5).of(translation_item(2), settings)

    def stop(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Concepts(tmp_path / "parts", tiny, 5, report=stop).of(translation_item(2), settings)
    lines: list[str] = []
    rest = Concepts(tmp_path / "parts", tiny, 5, report=lines.append).of(translation_item(2), settings)
    assert lines == [], "fifty rounds are behind it"
    assert torch.equal(rest.concept.vectors, whole.concept.vectors)
    assert rest.rows == whole.rows == 60
    assert rest.seconds > 0


def test_learned_rows_share_the_concept_that_a_translation_learns(tmp_path: Path) -> None:
    few = "rounds=2,batch=1,steps=3"
    rows = [f"paper=vct,{few}", f"code=vct-code,{few}"]
    translations(Settings(out=tmp_path, limit=1, save_pictures=True, report=len), rows=rows)
    learned = sorted((tmp_path / "concepts").glob("*.safetensors"))
    assert [file.name.split("-")[0] for file in learned] == ["style", "subject"]
    item = translation_item(0)
    pictures = Image.fromarray(item.source), Image.fromarray(item.reference)
    alone = translate(*pictures, load("builtin"), preset="vct", seed=0, rounds=2, batch=1, steps=3)
    panels = np.asarray(Image.open(tmp_path / "pictures" / "paper" / "0000.png"))
    assert np.array_equal(panels[:, -128:], np.asarray(alone.image))
    record = json.loads((tmp_path / "items-paper.jsonl").read_text().splitlines()[0])
    assert record["rows"] == alone.report["rows"]
