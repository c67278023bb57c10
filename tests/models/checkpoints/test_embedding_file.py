"""Learned words: every word of every kind of file, and where texts use them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from cloisonne.core.plan import Conditioning
from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.convert import convert
from cloisonne.models.load import load
from cloisonne.models.text.clip import ClipTextEncoder
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene


def saved(path: Path, tensors: dict[str, Tensor]) -> Path:
    save_file(tensors, path)
    return path


def read(folder: Path, *files: Path) -> ClipTextEncoder:
    text = load(folder, embeddings=files).text
    assert isinstance(text, ClipTextEncoder)
    return text


def vectors_of(text: ClipTextEncoder, written: str, encoder: int = 0) -> Tensor:
    """The vectors that a text is read with."""
    return text.modules[encoder].get_input_embeddings().weight[text.token_ids(written)]


def a1111(path: Path, vectors: Tensor, name: str | None = "mine") -> Path:
    table = {"string_to_token": {"*": 265}, "string_to_param": {"*": torch.nn.Parameter(vectors)}, "step": 500}
    torch.save(table | ({} if name is None else {"name": name}), path)  # noqa: TID251 what AUTOMATIC1111 writes
    return path


def test_all_words_of_a_file_are_read(tiny_sd: Path, tmp_path: Path) -> None:
    words = {"ink": torch.randn(3, 16), "oil": torch.randn(16), "<chalk>": torch.randn(1, 2, 16)}
    text = read(tiny_sd, saved(tmp_path / "x.safetensors", words))
    for word, vectors in words.items():
        torch.testing.assert_close(vectors_of(text, f"{word}"), vectors.reshape(-1, 16))
    assert text.token_ids("a cat") == read(tiny_sd).token_ids("a cat")


@pytest.mark.parametrize("name", ["mine", None, "*"])
def test_an_embedding_of_automatic1111_is_read(tiny_sd: Path, tmp_path: Path, name: str | None) -> None:
    vectors = torch.randn(2, 16)
    file = a1111(tmp_path / "stem.pt", vectors, name)
    word = "mine" if name == "mine" else "stem"
    torch.testing.assert_close(vectors_of(read(tiny_sd, file), f"a {word} cat")[1:3], vectors)
    converted = convert(file, tmp_path / "stem.safetensors")
    torch.testing.assert_close(vectors_of(read(tiny_sd, converted), word), vectors)


@pytest.mark.parametrize("end", ["pt", "bin"])
def test_a_pickle_of_words_is_read(tiny_sd: Path, tmp_path: Path, end: str) -> None:
    words = {"<cat-toy>": torch.randn(16), "oil": torch.randn(2, 16)}
    torch.save(words, tmp_path / f"x.{end}")  # noqa: TID251 what older tools write
    text = read(tiny_sd, tmp_path / f"x.{end}")
    torch.testing.assert_close(vectors_of(text, "oil <cat-toy>"), torch.cat([words["oil"], words["<cat-toy>"][None]]))


class Harmful:
    def __reduce__(self) -> Any:
        return (print, ("code ran",))


def test_a_pickle_with_code_is_refused(tiny_sd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = {"name": Harmful(), "string_to_param": {"*": torch.zeros(1, 16)}}
    torch.save(table, tmp_path / "x.pt")  # noqa: TID251 what it must not read
    with pytest.raises(CheckpointError, match="needs code to be read, which is never run"):
        read(tiny_sd, tmp_path / "x.pt")
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize("names", [("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1")])
def test_words_of_xl_have_vectors_for_each_encoder(tiny_xl: Path, tmp_path: Path, names: tuple[str, str]) -> None:
    halves = (torch.randn(2, 16), torch.randn(2, 24))
    text = read(tiny_xl, saved(tmp_path / "mine.safetensors", dict(zip(names, halves, strict=True))))
    for number, half in enumerate(halves):
        torch.testing.assert_close(vectors_of(text, "Mine", number), half)


@pytest.mark.parametrize(
    ("tensors", "lacking"),
    [
        ({"clip_l": (2, 16)}, "lacks the vectors of the second text encoder, clip_g of 24 numbers"),
        ({"clip_g": (2, 24)}, "lacks the vectors of the first text encoder, clip_l of 16 numbers"),
        ({"mine": (1, 16)}, "lacks the vectors of the second text encoder, clip_g"),
        ({"emb_params": (1, 24)}, "lacks the vectors of the first text encoder, clip_l"),
        ({"mine": (1, 99)}, r"its vectors have 99 numbers, and the model's embeddings 16 and 24"),
        ({"clip_l": (1, 24), "clip_g": (1, 24)}, r"its vectors have 24 numbers, and the model's embeddings 16"),
        ({"clip_l": (1, 16), "clip_g": (2, 24)}, "has 1 and 2 vectors for its two text encoders"),
    ],
)
def test_halves_that_are_missing_are_named(
    tiny_xl: Path, tmp_path: Path, tensors: dict[str, tuple[int, int]], lacking: str
) -> None:
    file = saved(tmp_path / "x.safetensors", {name: torch.randn(shape) for name, shape in tensors.items()})
    with pytest.raises(CheckpointError, match=lacking):
        read(tiny_xl, file)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"mine": (1, 99)}, "its vectors have 99 numbers, and the model's embeddings 16"),
        ({"mine": (1, 16), "other": (1, 99)}, "its vectors have 99 numbers, and the model's embeddings 16"),
        ({"clip_l": (1, 16), "clip_g": (1, 24)}, 'it has vectors for two text encoders, "clip_l", "clip_g"'),
        ({"mine": (1, 2, 3, 16)}, "holds no vectors"),
    ],
)
def test_what_does_not_fit_is_refused(tiny_sd: Path, tmp_path: Path, tensors: dict[str, Any], message: str) -> None:
    file = saved(tmp_path / "x.safetensors", {name: torch.randn(shape) for name, shape in tensors.items()})
    with pytest.raises(CheckpointError, match=message):
        read(tiny_sd, file)


def test_one_encoders_half_is_read_by_a_model_of_one(tiny_sd: Path, tmp_path: Path) -> None:
    vectors = torch.randn(2, 16)
    torch.testing.assert_close(
        vectors_of(read(tiny_sd, saved(tmp_path / "mine.safetensors", {"clip_l": vectors})), "mine"), vectors
    )


def test_a_word_is_added_once(tiny_sd: Path, tmp_path: Path) -> None:
    files = [saved(tmp_path / name, {"Ink": torch.randn(1, 16)}) for name in ("a.safetensors", "b.safetensors")]
    with pytest.raises(CheckpointError, match=r'The word "Ink" of .*b\.safetensors" exists already'):
        read(tiny_sd, *files)


WORDS = {"ink": 3, "ink_1": 1, "ink wash": 2, "art": 1, "<red-toy>": 2, "my-style": 2, "é": 1}
"""How many vectors each has."""


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory, tiny_sd: Path) -> ClipTextEncoder:
    file = tmp_path_factory.mktemp("words") / "x.safetensors"
    torch.manual_seed(0)
    save_file({word: torch.randn(count, 16) for word, count in WORDS.items()}, file)
    return read(tiny_sd, file)


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("an ink cat", ["ink"]),
        ("an INK cat, Ink!", ["ink", "ink"]),
        ("ink_1", ["ink_1"]),
        ("ink, ink_1 and Ink Wash", ["ink", "ink_1", "ink wash"]),
        ("ink_2 inkwell blink ink3 drink", []),
        ("party, artist, smart, heart", []),
        ("art-party", ["art"]),
        ("a party of art.", ["art"]),
        ("a <Red-Toy> on x<red-toy>x", ["<red-toy>", "<red-toy>"]),
        ("My-Style", ["my-style"]),
        ("my style", []),
        ("café, É", ["é"]),
        ("", []),
    ],
)
def test_words_are_found_whole_longest_first_in_any_case(
    learned: ClipTextEncoder, tiny_sd: Path, written: str, names: list[str]
) -> None:
    rows = [row for name in names for row in learned.learned.ids[name]]
    assert [i for i in learned.token_ids(written) if learned.learned.name_of(i)] == rows
    assert list(learned.learned.used(written)) == list(dict.fromkeys(names))
    plain = read(tiny_sd)
    rest = [i for part, name in learned.learned.split(written) if name is None for i in plain.token_ids(part)]
    assert [i for i in learned.token_ids(written) if not learned.learned.name_of(i)] == rest
    if not names:
        assert learned.token_ids(written) == plain.token_ids(written)


def test_explain_reports_the_words_of_each_text(tiny_sd: Path, tmp_path: Path) -> None:
    words = {word: torch.randn(count, 16) for word, count in WORDS.items()}
    model = load(tiny_sd, embeddings=saved(tmp_path / "x.safetensors", words))
    scene = Scene(
        caption="(Ink:1.2) party in [art:ink_1:0.5]",
        negative="<red-toy>",
        method="attention",
        regions=[
            Region(name="pet", box=(0, 0, 0.5, 1), phrase="an INK WASH cat"),
            Region(name="car", box=(0.5, 0, 1, 1), phrase="a smart car"),
        ],
    )
    explained = explain(scene, model)
    assert explained.learned == {
        "caption": ("ink", "art", "ink_1"),
        "negative": ("<red-toy>",),
        'region "pet"': ("ink wash",),
    }
    assert 'learned words: region "pet": ink wash' in str(explained)
    assert "learned words" not in str(explain(scene, load(tiny_sd)))


@pytest.mark.parametrize("method", ["reco", "words", "attention"])
@pytest.mark.parametrize("word", ["my-style", "ink wash", "*mark"])
def test_every_method_reads_words_of_several_vectors(tiny_family: Path, tmp_path: Path, method: str, word: str) -> None:
    """Where texts are cleaned up, hyphens and marks of a learned word stay."""
    file = saved(tmp_path / "x.safetensors", {word: torch.randn(3, 16)})
    model = load(tiny_family, embeddings=file)
    assert isinstance(model.text, ClipTextEncoder)
    rows = list(model.text.learned.ids[word])
    scene = Scene(caption=f"{word.title()} cat", method=method, regions=[Region(box=(0, 0, 1, 1), phrase="a car")])
    prepared = prepare(scene, model)
    conditionings = [view.branches["cond"] for view in prepared.compiled.plan.views]
    pieces = [piece for one in conditionings if isinstance(one, Conditioning) for piece in one.tokens]
    sequences = [piece.ids or () for piece in pieces]
    assert any(list(ids[k : k + 3]) == rows for ids in sequences for k in range(len(ids)))
