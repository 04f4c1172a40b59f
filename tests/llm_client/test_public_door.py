"""What `import llm_client` offers, and what it does not load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import llm_client
from llm_client import testing

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("anyio", "asyncio", "httpcore", "httpx", "pydantic", "ssl", "tiktoken", "trio")


def loaded_by(statement: str) -> list[str]:
    """Which of the heavy modules `statement` loads into a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    "statement",
    [
        "import llm_client",
        "from llm_client import LLMRequest, Message, Accumulator, RetryPolicy, LLMError",
        "import llm_client; dir(llm_client); hasattr(llm_client, 'nothing')",
        "from llm_client import PROVIDERS, Deadlines",
    ],
)
def test_importing_the_package_loads_nothing_heavy(statement: str) -> None:
    """Neither event loops nor TLS nor validation: those come with the first service."""
    assert loaded_by(statement) == []


def test_the_first_service_loads_the_transport_and_no_more() -> None:
    """The vendors' SDKs, pydantic and tokenizers are not on the way to an HTTP request."""
    made = "from llm_client import create_llm_service as c; c('vllm:x', env={})"
    assert not {"pydantic", "tiktoken"} & set(loaded_by(made))


def test_every_public_name_can_be_had_and_is_listed_once() -> None:
    """Those loaded on demand too."""
    names = llm_client.__all__
    assert len(names) == len(set(names))
    for name in names:
        assert getattr(llm_client, name) is not None
    assert dir(llm_client) == sorted(names)
    for name in testing.__all__:
        assert getattr(testing, name) is not None


def test_every_dialect_can_be_had_by_its_vendors_name() -> None:
    """For a codec of one's own making; each protocol that has dialects in the same way."""
    kinds = {name for name in llm_client.__all__ if name.endswith("Dialect")}
    makers = [name for name in llm_client.__all__ if name.endswith("_dialect")]
    made = {type(getattr(llm_client, name)("somebody")).__name__ for name in makers}
    assert made == kinds
    assert len(makers) == len(kinds) == 4


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    """As from any module."""
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = getattr(llm_client, "nothing")  # noqa: B009 - type checkers know that it is missing


def without(module: str, *statements: str) -> str:
    """What a fresh interpreter prints in which `module` is not installed."""
    code = "\n".join([f"import sys; sys.modules[{module!r}] = None", *statements])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize(
    ("module", "name", "extra"),
    [("aiohttp", "AiohttpTransport", "fast"), ("genai_prices", "GenAIPrices", "prices")],
)
def test_a_missing_extra_names_itself(module: str, name: str, extra: str) -> None:
    """Where a class that needs it is made, which says what to install."""
    told = without(
        module,
        "import llm_client",
        f"try: llm_client.{name}()",
        "except llm_client.ConfigError as error: print(error)",
    )
    assert f"'power-loop[{extra}]'" in told


@pytest.mark.parametrize("module", ["aiohttp", "genai_prices", "PIL", "pypdf", "rich", "xllamacpp"])
def test_every_name_can_be_had_without_an_extra(module: str) -> None:
    """So that listings, documentation and star imports work on any installation."""
    told = without(
        module,
        "import inspect, llm_client",
        "print(len(inspect.getmembers(llm_client)) == len(llm_client.__all__))",
        "from llm_client import *",
        "help(llm_client)",
    )
    assert told.startswith("True\n")
