"""Every command and Python snippet of the site runs as it is printed, those of a page one after the other in a folder.

What cannot run here stands in ``NOT_RUN`` with its reason, or has a reason on its page. Files that a page speaks of are
in its folder before (tests/support/page_files.py). A command that serves is asked for its page, and ended.
"""

import os
import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from command_lines import Snippet, inline_commands, snippets
from page_files import link_checkpoints, write_checkpoints, write_files
from studio_client import environment, server
from typer.testing import CliRunner

from cloisonne.cli.main import app
from cloisonne.models.builtin import BUILTIN

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "benchmarks" / "records"
SITE = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
PAGES = [*SITE, ROOT / "README.md"]

GPU, WEIGHTS, NETWORK = "a GPU", "published weights", "a network"
CLUSTER, HOURS, TREE = "a cluster", "hours, or many minutes", "the repository or ComfyUI as the working folder"
MOMENT = "a job that runs at that moment"
GIVEN = "what the test's own server has another value for"
NOT_RUN = (
    ("*", "pip install", NETWORK),
    ("*", "make ", TREE),
    ("README.md", "git clone", NETWORK),
    ("docs/installing.md", "pipx install", NETWORK),
    ("docs/installing.md", "uv tool install", NETWORK),
    ("docs/releasing.md", "python scripts/package.py", NETWORK),
    ("docs/api.md", "URL=", GIVEN),
    ("docs/api.md", "TOKEN=", GIVEN),
    ("docs/api.md", 'curl -H "$AUTH" $URL/v1/jobs/$JOB/preview', MOMENT),
    ("docs/comfyui.md", "ln -s", TREE),
    ("docs/comfyui.md", "COMFYUI_PATH=", TREE),
    ("docs/serving.md", "cloisonne serve", CLUSTER),
    ("docs/serving.md", "kubectl ", CLUSTER),
    ("docs/index.md", "cloisonne generate scene.json --model path/to/checkpoint --device cuda", GPU),
    ("docs/flux2-klein.md", "cloisonne generate", GPU),
    ("docs/flux2-klein.md", "cloisonne fill", GPU),
    ("docs/flux2-klein.md", "cloisonne studio", GPU),
    ("docs/evaluating-checkpoints.md", "cloisonne evaluate layouts", GPU),
    ("docs/checkpoints.md", "cloisonne generate scene.json --model sd", WEIGHTS),
    ("docs/checkpoints.md", "cloisonne generate scene.json --model model.json --device cuda", GPU),
    ("docs/checkpoints.md", "cloisonne generate scene.json --model black-forest-labs/", GPU),
    ("docs/checkpoints.md", "cloisonne generate scene.json --model Tongyi-MAI/", GPU),
    ("docs/checkpoints.md", "cloisonne generate scene.json --model flux/", WEIGHTS),
    ("docs/checkpoints.md", "cloisonne generate scene.json --model flux1-dev", WEIGHTS),
    ("docs/checkpoints.md", "cloisonne generate scene.json --model z_image_turbo", WEIGHTS),
    ("docs/checkpoints.md", "python benchmarks/joint_attention.py", HOURS),
    ("docs/performance.md", "cloisonne generate --compile", HOURS),
    ("docs/methods/regions-without-training.md", "python benchmarks/bounded.py", HOURS),
    ("docs/methods/vct.md", "cloisonne translate photo.png --reference blueprint.png -o learned.png", HOURS),
    ("docs/methods/vct.md", "cloisonne translate other.png", HOURS),
    ("docs/methods/reco.md", "cloisonne train reco", HOURS),
    ("docs/methods/paint-by-example.md", "cloisonne train exemplar", HOURS),
    ("docs/methods/localized-control.md", "cloisonne train control", HOURS),
    ("docs/training-your-own.md", "cloisonne train", HOURS),
    ("docs/training-your-own.md", "accelerate launch", HOURS),
    ("docs/training-your-own.md", "torchrun", HOURS),
    ("docs/training.md", "cloisonne train family", HOURS),
    ("docs/training.md", "cloisonne train decoder", HOURS),
    ("docs/training.md", "python scripts/rebuild.py", HOURS),
    ("README.md", "cloisonne train reco", HOURS),
    ("README.md", "cloisonne convert", WEIGHTS),
)
"""(page, start of the command, what it needs). ``commands`` that made a record took minutes to hours, too."""
REASONS = {GPU: "--device cuda", NETWORK: "", WEIGHTS: "", CLUSTER: "", HOURS: "", TREE: "", GIVEN: "", MOMENT: ""}
"""What each reason shows in the command."""
pytestmark = pytest.mark.filterwarnings("ignore:.*FluxPosEmbed:FutureWarning")  # diffusers' FluxControlNetModel
builtin = pytest.mark.skipif(not (BUILTIN / "model_index.json").is_file(), reason="the built-in family is missing")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def reason(page: Path, one: Snippet) -> str | None:
    """Why a snippet is not run; None if it is."""
    if one.language == "python":
        return one.not_run
    if one.record:
        return HOURS
    return next((why for of, start, why in NOT_RUN if of in ("*", name(page)) and one.text.startswith(start)), None)


@pytest.mark.parametrize("entry", NOT_RUN, ids=lambda entry: f"{entry[0]}: {entry[1]}")
def test_exceptions_are_on_their_page(entry: tuple[str, str, str]) -> None:
    of, start, why = entry
    found = [one.text for page in PAGES if of in ("*", name(page)) for one in snippets(page) if not one.record]
    found = [text for text in found if text.startswith(start)]
    assert found
    assert all(REASONS[why] in text for text in found)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_of_a_page_write_different_files(page: Path) -> None:
    """So that a reader who follows the page is not stopped; only a batch goes on in its folder."""
    lines = [one.text for one in snippets(page) if one.language == "" and not one.record]
    lines = [line for line in lines if not line.startswith(("cloisonne batch", "accelerate", "torchrun"))]
    written = [found[1] for line in lines if (found := re.search(r" (?:-o|--output) (\S+)", line))]
    for one in snippets(page):
        if one.language == "python" and not one.not_run:
            written += re.findall(r"""\.save\("([^"]+)"\)""", one.text)
    assert len(written) == len({*written})


def test_commands_of_records_are_of_records() -> None:
    named = {one.record for page in PAGES for one in snippets(page) if one.record}
    assert named <= {path.stem for path in RECORDS.glob("*.json")}


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name)
def test_commands_in_running_text_have_these_options(page: Path) -> None:
    """What they name is a command with these options. The changelog names those of before, too."""
    import typer

    for line in inline_commands(page):
        command: Any = typer.main.get_command(app)
        words = shlex.split(line)[1:]
        while words and hasattr(command, "commands") and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        assert not hasattr(command, "commands") or not words, line
        options = {flag for parameter in getattr(command, "params", []) for flag in parameter.opts}
        assert {word.partition("=")[0] for word in words if word.startswith("-")} <= {*options, "--help"}, line


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    write_checkpoints(folder)
    return folder


class Shell:
    """A shell that goes on from command to command."""

    END = "the command has ended with"

    def __init__(self, more: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            ["bash"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment() | more,
        )

    def run(self, text: str) -> str:
        """The output of a command. Raises AssertionError if it fails."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"set -o pipefail\n{text}\necho; echo {self.END} $?\n")
        self.process.stdin.flush()
        lines = []
        for line in self.process.stdout:
            if line.startswith(self.END):
                assert line.split()[-1] == "0", (text, lines)
                return "".join(lines)
            lines.append(line)
        raise AssertionError((text, lines))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()


def serves(text: str) -> None:
    """Run a command that prints its address and goes on, fetch the page there, and end it."""
    words = [sys.executable, "-m", *shlex.split(text, comments=True)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment() | {"BROWSER": "true"})
    try:
        assert process.stdout
        address = next(line for line in process.stdout if line.startswith("http"))
        with urllib.request.urlopen(address.partition("#")[0], timeout=60) as answer:
            assert b"studio.mjs" in answer.read()
    finally:
        process.terminate()
        process.wait()
        if process.stdout:
            process.stdout.close()


def run_command(text: str, shell: Shell) -> str:
    """Run a command of a page. Returns its output and messages."""
    if text.startswith("cloisonne studio"):
        serves(text)
        return ""
    if not text.startswith("cloisonne "):
        return shell.run(re.sub(r"^python (scripts|benchmarks)/", rf"{sys.executable} {ROOT}/\1/", text))
    _, *words = shlex.split(text, comments=True)
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, f"{text}: {result.output} {result.exception!r}"
    return result.output


@contextmanager
def surroundings(page: Path, folder: Path) -> Iterator[dict[str, str]]:
    """The environment of a page's commands: for that of the API, a server."""
    os.environ["XDG_DATA_HOME"] = str(folder / "data")
    if page.name != "api.md":
        yield {}
        return
    (folder / ".curlrc").write_text("fail\nsilent\nshow-error\n")
    (folder / "served").mkdir()
    with server(folder / "served" / "data") as process:
        yield {"URL": process.url, "TOKEN": process.token, "CURL_HOME": str(folder)}


@pytest.mark.slow
@builtin
@pytest.mark.parametrize("page", [page for page in PAGES if [*snippets(page)]], ids=name)
def test_everything_runs_as_printed(
    page: Path, checkpoints: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "")
    write_files(workdir, page)
    link_checkpoints(checkpoints, workdir)
    namespace: dict[str, object] = {}
    with surroundings(page, workdir) as more:
        shell = Shell(more)
        try:
            for one in snippets(page):
                if reason(page, one) is not None:
                    continue
                if one.language == "python":
                    exec(compile(one.text, name(page), "exec"), namespace)
                    continue
                output = run_command(one.text, shell)
                assert [line for line in one.output if line not in output] == []
        finally:
            shell.close()
