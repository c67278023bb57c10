"""What ``import cloisonne`` gives, and what it costs."""

import subprocess
import sys

import pytest

import cloisonne


@pytest.mark.parametrize("name", cloisonne.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(cloisonne, name).__name__ == name
    assert name in dir(cloisonne)


def test_names_are_few_sorted_and_no_others_appear() -> None:
    assert len(cloisonne.__all__) <= 27
    assert cloisonne.__all__ == sorted(cloisonne.__all__)
    with pytest.raises(AttributeError, match="no attribute 'upscale'"):
        cloisonne.upscale  # noqa: B018


@pytest.mark.parametrize(
    "statement", ["import cloisonne", "from cloisonne import SceneError", "from cloisonne import Scene, Region"]
)
def test_scenes_and_errors_need_no_networks(statement: str) -> None:
    program = f"import sys; {statement}; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_import_alone_needs_next_to_nothing() -> None:
    program = "import sys; import cloisonne; sys.exit('pydantic' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
