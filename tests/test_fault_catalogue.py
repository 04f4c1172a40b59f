"""Faults that systems of this kind have had in the field, each ruled out by a test that names it.

A test claims a fault by its id in the docstring, such as (S27), and for each fault one test has the
id in its name, so that `pytest -k s27` finds it. The rules of transcripts have ids that begin with
A and C as well; so a rule is named as "rule A14", and the faults of asyncio are claimed as "fault
C04".
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent

FAULTS = {
    # Streams.
    "S01": "a character's bytes arrive in two pieces",
    "S02": "a line or an event arrives in two pieces",
    "S04": "an error frame is not recognised in its place",
    "S07": "an overloaded provider that says so under status 200",
    "S08": "an error frame ends the stream as if all were well",
    "S09": "a connection that closes early counts as an end",
    "S10": "a cut behind the finish reason loses a whole answer",
    "S14": "calls without an index",
    "S16": "two calls under one index",
    "S18": "pieces of arguments go to the wrong call",
    "S19": "a call whose id comes late or never",
    "S20": "arguments before the name they are for",
    "S22": "a second beginning in the middle of an answer",
    "S25": "encrypted reasoning is kept before it is whole",
    "S27": "a server that falls silent and stays connected",
    "S28": "pings that nobody takes for signs of life",
    "S29": "a proxy's page instead of an answer",
    # Arguments of tools.
    "A03": "a call cut off by the output limit is run",
    "A04": "broken arguments under a good finish reason are run",
    "A05": "broken arguments in the history make each later request illegal",
    "A07": "a number of thousands of digits",
    "A09": "the provider itself refuses the model's call",
    # How answers end.
    "F02": "an announced call that never comes",
    "F03": "a call that the provider itself calls malformed, or an empty answer",
    "F04": "a cut-off answer that looks whole",
    "F05": "a tool that the provider ran counts as ours",
    # Interrupted calls.
    "O02": "cancellation leaves a call without a result",
    "O03": "a session is unusable after a cancellation",
    "O04": "a tool runs on after its run",
    "O05": "one failing tool orphans the others",
    "O06": "an interrupted tool is told as refused",
    "O07": "cancellation comes out as some other error",
    "O09": "a result of one turn in another",
    "O12": "a request with missing results is sent",
    # Reasoning that must come back.
    "R03": "a signature of another vendor is sent",
    "R05": "a signature is lost in the store",
    "R06": "parallel calls take each other's signature",
    "R07": "a history of another vendor, where each turn must be signed",
    "R08": "reasoning without the item that it led to",
    "R10": "something between reasoning and its item",
    "R11": "a vendor's own reasoning field is left out",
    # Retries and time.
    "X02": "a wait of days is obeyed",
    "X03": "two layers that both retry",
    "X04": "odd forms of Retry-After",
    "X07": "all workers come back at the same instant",
    "X09": "a request that may be billed twice",
    "X12": "text or calls doubled by a second try",
    "X13": "an empty account is asked again",
    "X14": "a default deadline of hours",
    # Connections.
    "P01": "cancelled requests keep their places",
    "P02": "a kept connection that had died",
    # asyncio.
    "C03": "a run's context reaches another run",
    "C04": "a timeout that a hidden task does not feel",
    "C06": "a coroutine that nobody awaited",
    "C07": "something taken before the first iteration, never given back",
    "C09": "a task that nobody owns",
    # Memory and stores.
    "M02": "waiting for a reader who has left",
    "D01": "a database that says it is locked",
    "D02": "a log on a file system that cannot keep it, or a damaged file",
    "D03": "a database handle carried over a fork",
    "D04": "a store's failure that is swallowed, or comes out raw",
    "D09": "two messages at once in one session",
    "D11": "history in the order of a clock",
    "D12": "a resumed run repeats what had its effect",
    # What is put into a request.
    "K01": "a prompt that is too long, in a vendor's own words",
    "K03": "a cut between a call and its result",
    "K04": "the request for a summary is illegal itself",
    "K05": "the summariser is offered tools, and calls one",
    "K08": "one result larger than everything else",
    "I01": "an image that no provider takes stays in the session",
    "I02": "an empty text in a request",
    "J02": "a reference in a corner of a schema",
    "J03": "strict where the schema does not allow it",
    # Budgets and sub-agents.
    "B01": "agents that call agents without an end",
    "B02": "depth is bounded, and number is not",
    "B04": "all look into one budget, and then all spend it",
    # Security.
    "Z01": "a link out of the workspace",
    "Z02": "a file made or swapped through a link",
    "Z03": "a path that climbs out",
    "Z04": "a redirect into one's own network",
    "Z06": "a private address in disguise, and a body without end",
    "Z10": "a key in a log, an error, an event or a store",
}
"""All of them, in our own words."""

_ID = re.compile(r"(?<!\b[Rr]ule )\b[ABDFIJKMOPRSXZ]\d\d\b")
_ASYNCIO_IDS = re.compile(r"\bfaults? (C\d\d(?:, C\d\d)*)")


def claimed_in(docstring: str) -> set[str]:
    """The faults that a test with this docstring claims to rule out."""
    found = set(_ID.findall(docstring))
    for ids in _ASYNCIO_IDS.findall(docstring):
        found.update(ids.split(", "))
    return found


def checks_of(source: str) -> Iterator[tuple[str, str]]:
    """Name and docstring of each test in a module that really checks something."""
    for node in ast.parse(source).body:
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name.startswith("test_")
            and len(node.body) > 1
        ):
            yield node.name, ast.get_docstring(node) or ""


@pytest.fixture(scope="module")
def claims() -> dict[str, list[str]]:
    """See `claimed_by_tests`."""
    return claimed_by_tests()


def claimed_by_tests() -> dict[str, list[str]]:
    """The tests by the fault that they claim."""
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for name, docstring in checks_of(path.read_text()):
            for id in claimed_in(docstring):
                found.setdefault(id, []).append(f"{path.relative_to(TESTS)}::{name}")
    return found


@pytest.mark.parametrize("id", FAULTS)
def test_a_known_fault_is_ruled_out_by_a_test(id: str, claims: dict[str, list[str]]) -> None:
    """Whoever removes the last test of a fault is told."""
    assert claims.get(id), f"no test claims {id}: {FAULTS[id]}"


@pytest.mark.parametrize("id", FAULTS)
def test_a_known_fault_is_in_the_name_of_a_test_that_rules_it_out(
    id: str, claims: dict[str, list[str]]
) -> None:
    """`pytest -k s27` runs it."""
    names = [test.partition("::")[2] for test in claims.get(id, [])]
    assert any(re.search(rf"_{id.lower()}(_|$)", name) for name in names), (id, names)


def test_no_test_claims_what_is_not_in_the_table(claims: dict[str, list[str]]) -> None:
    """A wrong id would rule out nothing; a fault ruled out early moves up into the table."""
    assert {id: tests for id, tests in claims.items() if id not in FAULTS} == {}


def test_the_catalogue_is_whole() -> None:
    """No fault is left out of it."""
    assert len(FAULTS) == 82


@pytest.mark.parametrize(
    ("docstring", "ids"),
    [
        ("A stalled stream (S27, X12).", {"S27", "X12"}),
        ("S14: by id, else by position.", {"S14"}),
        ("Nothing lives on (faults C06, C07).", {"C06", "C07"}),
        ("Nothing lives on (fault C09); no S9 or XS270.", {"C09"}),
        ("A rule of transcripts (C07, rule A14).", set[str]()),
    ],
)
def test_claims_are_read_from_docstrings(docstring: str, ids: set[str]) -> None:
    """In the forms in which tests write them."""
    assert claimed_in(docstring) == ids


def test_a_test_that_only_has_a_docstring_claims_nothing() -> None:
    """It could not fail."""
    source = 'def test_x():\n    """(S27)"""\n\ndef test_y():\n    """(S28)"""\n    assert f()\n'
    assert [name for name, _ in checks_of(source)] == ["test_y"]
