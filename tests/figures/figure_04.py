"""Figure 4: recorded traffic decodes to what the vendor's SDK made of it, whole and in pieces."""

from __future__ import annotations

import msgspec

from llm_client.replay import Exchange, Row, replay
from tests.chat_agreement import DIFFERENT, NO_ANSWERS, agreement
from tests.chat_streams import CORPUS_FILE, EXPECTED_FILE, built_streams
from tests.corpus import corpus_path, read_jsonl
from tests.figures.result import FigureResult

_ABOUT = "text, calls, finish, refusal and usage equal to expected"


def run(full: bool) -> FigureResult:
    """Every recorded chat exchange, whole and in pieces of 7 bytes; in full also others."""
    splits = (None, 7, 1, 2, 3, 64) if full else (None, 7)
    source, expected_source = corpus_path(CORPUS_FILE), corpus_path(EXPECTED_FILE)
    if source is None or expected_source is None:
        return _without_corpus(splits)
    expected = {row["id"]: row for row in read_jsonl(expected_source)}
    exchanges = [
        msgspec.json.decode(line, type=Exchange, strict=False)
        for line in source.read_bytes().splitlines()
    ]
    failures: list[str] = []
    agreed = 0
    for split in splits:
        for exchange in exchanges:
            found = _decoded(exchange, split, failures)
            wanted = expected[str(exchange.id)]
            if found is not None and wanted["ok"]:
                differs = _differences(wanted, msgspec.to_builtins(found))
                agreed += not differs
                failures += [f"{exchange.id} split={split}: {name} differs" for name in differs]
    answers = sum(row["ok"] for row in expected.values())
    return FigureResult(
        len(exchanges) * len(splits),
        tuple(failures),
        f"{len(exchanges)} chat exchanges in {len(splits)} cuts, {answers} answers each, {_ABOUT}: "
        f"{agreed} agree, {len(DIFFERENT) + len(NO_ANSWERS)} differ by intent a cut",
    )


def _decoded(exchange: Exchange, split: int | None, failures: list[str]) -> Row | None:
    try:
        return replay(exchange, split)
    except Exception as error:  # noqa: BLE001 - any escape is what this figure looks for
        failures.append(f"{exchange.id} split={split}: crashed with {error!r}")
        return None


def _differences(wanted: dict[str, object], found: dict[str, object]) -> list[str]:
    differs = [name for name, agrees in agreement(wanted, found).items() if not agrees]
    if wanted["id"] in DIFFERENT and differs == ["calls"]:
        return []
    if wanted["id"] not in NO_ANSWERS and not found["ok"]:
        differs.append("ok")
    return differs


def _without_corpus(splits: tuple[int | None, ...]) -> FigureResult:
    """Without recordings: streams built by hand say the same in every cut."""
    failures: list[str] = []
    built = built_streams()
    for number, stream in enumerate(built):
        exchange = Exchange("openai_chat", str(number), raw_sse=stream.decode())
        whole = _decoded(exchange, None, failures)
        for split in splits:
            if _decoded(exchange, split, failures) != whole:
                failures.append(f"stream {number} split={split}: differs")
    return FigureResult(
        len(built) * len(splits), tuple(failures), "no corpus here: built streams in several cuts"
    )
