"""The checkers themselves: no stricter than providers, and blind to nothing that those refuse."""

from __future__ import annotations

from typing import Any

import pytest

from llm_client.codecs._json import is_object
from tests.corpus import need_corpus, read_jsonl
from tests.legality import CHECKERS
from tests.legality.mutations import MUTATIONS, Mutation
from tests.telling import Tell

FREE = {
    "openai_chat": {"C11", "C12", "C19"},
    "openai_responses": {"R11"},
    "gemini": {"G09"},
    "ollama_native": {"C07"},
}
"""Canonical rules that some accepted requests break: we ask more of ourselves than providers do."""


def accepted(protocol: str) -> list[dict[str, Any]]:
    """The bodies of the recorded requests that were accepted."""
    rows = read_jsonl(need_corpus(f"dev.{protocol}.jsonl"))
    return [r["request_body"] for r in rows if r["status"] == 200 and is_object(r["request_body"])]


@pytest.mark.parametrize("protocol", CHECKERS)
def test_every_request_that_a_provider_accepted_is_legal(protocol: str, tell: Tell) -> None:
    """And what we hold ourselves to beyond that is named."""
    bodies = accepted(protocol)
    check = CHECKERS[protocol]
    assert [found for body in bodies if (found := check(body, False))] == []
    strict = [rule for body in bodies for rule in check(body, True)]
    assert {rule.partition(":")[0] for rule in strict} <= FREE.get(protocol, set())
    tell(f"{protocol}: {len(bodies)} accepted requests are legal")
    assert len(bodies) >= 7


@pytest.mark.parametrize(
    "mutation", MUTATIONS, ids=[f"{one.protocol}-{one.name}" for one in MUTATIONS]
)
def test_each_mutation_of_an_accepted_request_is_seen(mutation: Mutation) -> None:
    """By its rule."""
    check = CHECKERS[mutation.protocol]
    tried = 0
    for body in accepted(mutation.protocol):
        changed = mutation.of(body)
        if changed is not None:
            tried += 1
            rules = {found.partition(":")[0] for found in check(changed, True)}
            assert rules & mutation.rules, (mutation.name, rules)
    assert tried >= 1
