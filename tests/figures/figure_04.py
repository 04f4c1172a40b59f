"""Figure 4: recorded traffic decodes to what the vendor's SDK made of it, whole and in pieces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from llm_client.replay import Exchange, Row, replay
from tests import (
    anthropic_agreement,
    chat_agreement,
    gemini_agreement,
    responses_agreement,
)
from tests.corpus import corpus_path, read_jsonl
from tests.figures.result import FigureResult
from tests.wire_protocols import PROTOCOLS, WireProtocol


class _Expected(Struct, frozen=True):
    """How to compare with what the vendor's SDK made of a protocol's exchanges. The rows of
    `different` mean to differ in their calls, those of `no_answers` are errors here."""

    agreement: Callable[[dict[str, Any], dict[str, Any]], dict[str, bool]]
    different: Mapping[str, str]
    no_answers: Mapping[str, str]


_EXPECTED: dict[str, _Expected] = {
    "openai_chat": _Expected(
        chat_agreement.agreement, chat_agreement.DIFFERENT, chat_agreement.NO_ANSWERS
    ),
    "openai_responses": _Expected(responses_agreement.agreement, responses_agreement.DIFFERENT, {}),
    "anthropic_messages": _Expected(anthropic_agreement.agreement, {}, {}),
    "gemini": _Expected(
        gemini_agreement.agreement, gemini_agreement.DIFFERENT, gemini_agreement.NO_ANSWERS
    ),
}


def run(full: bool) -> FigureResult:
    """Every recorded exchange, whole and in pieces of 7 bytes; in full also others."""
    splits = (None, 7, 1, 2, 3, 64) if full else (None, 7)
    failures: list[str] = []
    told: list[str] = []
    cases = 0
    for protocol in PROTOCOLS:
        source = corpus_path(f"dev.{protocol.name}.jsonl")
        if source is None:
            cases += _built(protocol, splits, failures)
            continue
        exchanges = _exchanges(source)
        cases += len(exchanges) * len(splits)
        told.append(f"{protocol.name} {len(exchanges)}, {_compared(protocol, exchanges, failures)}")
        _cut(exchanges, splits, failures)
    about = "; ".join(told) or "no corpus here: built streams in several cuts"
    return FigureResult(cases, tuple(failures), f"{len(splits)} cuts each of {about}")


def _exchanges(source: Path) -> list[Exchange]:
    return [
        msgspec.json.decode(line, type=Exchange, strict=False)
        for line in source.read_bytes().splitlines()
    ]


def _compared(protocol: WireProtocol, exchanges: list[Exchange], failures: list[str]) -> str:
    """Compares whole exchanges with what is expected; a few words on how that went."""
    expected = _EXPECTED.get(protocol.name)
    if expected is None:
        return "nothing to compare with"
    rows = {row["id"]: row for row in read_jsonl(_expected_file(protocol))}
    agreed = 0
    for exchange in exchanges:
        wanted = rows[str(exchange.id)]
        found = _decoded(exchange, None, failures)
        if found is not None and wanted["ok"]:
            differs = _differences(expected, wanted, msgspec.to_builtins(found))
            agreed += not differs
            failures += [f"{exchange.id}: {name} differs" for name in differs]
    answers = sum(row["ok"] for row in rows.values())
    meant = len(expected.different) + len(expected.no_answers)
    return f"{agreed} of {answers} as expected or meant to differ ({meant})"


def _expected_file(protocol: WireProtocol) -> Path:
    path = corpus_path(f"expected.dev.{protocol.name}.jsonl")
    assert path is not None
    return path


def _cut(exchanges: list[Exchange], splits: tuple[int | None, ...], failures: list[str]) -> None:
    """In every cut an exchange says what it says whole."""
    for exchange in exchanges:
        whole = _decoded(exchange, None, failures)
        for split in splits[1:]:
            if _decoded(exchange, split, failures) != whole:
                failures.append(f"{exchange.id} split={split}: differs from the whole")


def _decoded(exchange: Exchange, split: int | None, failures: list[str]) -> Row | None:
    try:
        return replay(exchange, split)
    except Exception as error:  # noqa: BLE001 - any escape is what this figure looks for
        failures.append(f"{exchange.id} split={split}: crashed with {error!r}")
        return None


def _differences(expected: _Expected, wanted: dict[str, Any], found: dict[str, Any]) -> list[str]:
    if wanted["id"] in expected.no_answers:
        return ["ok"] if found["ok"] else []
    agreement = expected.agreement(wanted, found)
    differs = [name for name, agrees in agreement.items() if not agrees]
    if wanted["id"] in expected.different and differs == ["calls"]:
        return []
    return differs if found["ok"] else [*differs, "ok"]


def _built(protocol: WireProtocol, splits: tuple[int | None, ...], failures: list[str]) -> int:
    """Without recordings: streams built by hand say the same in every cut."""
    built = protocol.built()
    exchanges = [
        Exchange(protocol.name, f"{protocol.name} {number}", raw_sse=stream.decode())
        for number, stream in enumerate(built)
    ]
    _cut(exchanges, splits, failures)
    return len(built) * len(splits)
