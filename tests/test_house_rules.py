"""What the house holds itself to, beyond what ruff, pyright and import-linter check."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("llm_client", "power_loop")
MODULE_LINES = 400
FUNCTION_LINES = 60
HEAVY = ("asyncio", "httpx", "ssl", "pydantic", "tiktoken", "sqlite3", "trio", "aiohttp", "rich")


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_no_module_is_longer_than_its_budget() -> None:
    """A module that outgrows 400 lines has more than one responsibility."""
    lengths = {path: len(path.read_text().splitlines()) for path in sources()}
    assert len(lengths) > 40
    assert {str(p): n for p, n in lengths.items() if n > MODULE_LINES} == {}


def test_no_function_is_longer_than_its_budget() -> None:
    """A function of more than 60 lines cannot be read at a glance."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in sources()
        for node in functions(ast.parse(path.read_text()))
        if (node.end_lineno or node.lineno) - node.lineno + 1 > FUNCTION_LINES
    ]
    assert found == []


def test_no_first_party_import_hides_in_a_function() -> None:
    """Imports stand at the top; what must be lazy goes through one table in a package's door."""
    found = [
        f"{path.relative_to(ROOT)}:{inner.lineno}"
        for path in sources()
        for node in functions(ast.parse(path.read_text()))
        for inner in ast.walk(node)
        if (isinstance(inner, ast.ImportFrom) and (inner.module or "").startswith(PACKAGES))
        or (isinstance(inner, ast.Import) and any(a.name.startswith(PACKAGES) for a in inner.names))
    ]
    assert found == []


def test_the_environment_is_read_only_in_from_env() -> None:
    """Nothing looks at the environment behind the caller's back."""
    found: list[str] = []
    for path in sources():
        tree = ast.parse(path.read_text())
        allowed = {
            inner
            for node in functions(tree)
            if node.name == "from_env" or node.name.endswith("_from_env")
            for inner in ast.walk(node)
        }
        found += [
            f"{path.relative_to(ROOT)}:{node.lineno}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and node.attr in ("environ", "getenv")
            and node not in allowed
        ]
    assert found == []


@pytest.mark.parametrize(
    "statement",
    ["import power_loop", "import llm_client", "from power_loop import AgentLoop, tool"],
)
def test_importing_loads_nothing_heavy(statement: str) -> None:
    """No event loop, no TLS, no HTTP client, no pydantic, no database, before they are used."""
    code = f"{statement}\nimport sys\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_public_name_can_be_loaded() -> None:
    """The doors list what is there, and the lazy tables find it."""
    code = (
        "import llm_client, power_loop\n"
        "for package in (llm_client, power_loop):\n"
        "    for name in package.__all__:\n"
        "        getattr(package, name)\n"
        "    assert len(set(package.__all__)) == len(package.__all__)\n"
        "print('ok')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "ok", done.stderr
