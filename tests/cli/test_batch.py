"""What ``cloisonne batch`` prints while it runs."""

import pytest

from cloisonne.cli.batch import _Display
from cloisonne.pipelines.batches.progress import BatchProgress


def test_a_warning_of_all_images_of_a_scene_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    with _Display() as display:
        for place in range(8):
            name = "ab"[place % 2]  # two workers
            display(BatchProgress(done=place, failed=0, total=8, name=name, warnings=("It is blue.", "It is small.")))
        display(BatchProgress(done=8, failed=1, total=8, name="c", error="It is refused."))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        *(f'Warning: "{name}": {sentence}' for name in "ab" for sentence in ("It is blue.", "It is small.")),
        '"c" failed: It is refused.',
    ]
