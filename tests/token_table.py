"""How near counted tokens come to what providers have reported: `python -m tests.token_table`.

Each recorded exchange is counted as a session would: before it is sent, by a counter that has
learnt from those before it to the same model at the same provider. Left out are the exchanges whose
prompt is not in the request, or not in its recording: what the provider's own tools have found,
what it has kept of earlier turns, pictures, sound and files.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from statistics import median, quantiles

from msgspec import Struct

from llm_client.tokens import ModelTokens
from llm_client.types import Audio, File, Image, LLMRequest, Opaque, Text, ToolResult
from tests.corpus import need_corpus, read_jsonl
from tests.recorded_turns import PROTOCOLS, Turn, recorded_turns

__all__ = ["Vendor", "openai_texts", "table", "vendors"]

ENOUGH = 7
"""Exchanges of a vendor without which its median says nothing."""

_NOT_IN_THE_REQUEST = frozenset(
    {
        "cachedContent",
        "context_management",
        "conversation",
        "documents",
        "mcp_servers",
        "plugins",
        "previous_response_id",
        "prompt",
        "web_search_options",
    }
)


class Vendor(Struct):
    """What became of one vendor's exchanges: by how much counts were off, as a share of what it has
    reported, by the rules alone and with what was learnt before."""

    name: str
    left_out: int
    by_rule: list[float]
    learnt: list[float]

    @property
    def line(self) -> str:
        """One line of the table."""
        worse = quantiles(self.learnt, n=5)[-1] if len(self.learnt) > 1 else self.learnt[0]
        return (
            f"{self.name:<14}{len(self.learnt):>6}{self.left_out:>10}{median(self.by_rule):>9.1%}"
            f"{median(self.learnt):>9.1%}{worse:>9.1%}"
        )


def vendors() -> list[Vendor]:
    """All vendors, the one with the most exchanges first; skips the test without recordings."""
    found: dict[str, Vendor] = {}
    rules, counters = dict[str, ModelTokens](), dict[tuple[str, str], ModelTokens]()
    for name, turn in _turns():
        reported = turn.answer.usage.input_tokens if turn.answer is not None else None
        if turn.answer is None or not reported:
            continue
        vendor = found.setdefault(name, Vendor(name, 0, [], []))
        if not _is_countable(turn):
            vendor.left_out += 1
            continue
        model = turn.request.model or ""
        rule = rules.setdefault(name + model, ModelTokens(model, provider=name))
        counter = counters.setdefault((name, model), ModelTokens(model, provider=name))
        for errors, one in ((vendor.by_rule, rule), (vendor.learnt, counter)):
            errors.append(abs(one.count_request(turn.request).tokens - reported) / reported)
        counter.learn(turn.request, turn.answer.usage)
    counted = [vendor for vendor in found.values() if vendor.learnt]
    return sorted(counted, key=lambda vendor: -len(vendor.learnt))


def _turns() -> Iterator[tuple[str, Turn]]:
    for protocol in PROTOCOLS:
        rows = read_jsonl(need_corpus(f"dev.{protocol}.jsonl"))
        providers = {row["id"]: row["provider"] for row in rows}
        for turn in recorded_turns(protocol):
            yield providers[turn.id], turn


def _is_countable(turn: Turn) -> bool:
    if turn.request.server_tools or any(turn.body.get(name) for name in _NOT_IN_THE_REQUEST):
        return False
    parts = [part for message in turn.request.messages for part in message.parts]
    returned = [item for part in parts if isinstance(part, ToolResult) for item in part.content]
    return not any(isinstance(part, Image | Audio | File | Opaque) for part in [*parts, *returned])


def openai_texts() -> dict[str, list[str]]:
    """All texts of the recorded requests to OpenAI's models, by the vocabulary's name."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for protocol in ("openai_chat", "openai_responses"):
        for turn in recorded_turns(protocol):
            model = turn.request.model or ""
            if model.startswith(("gpt-3", "gpt-4-")) or model == "gpt-4":
                found["cl100k_base"].update(dict.fromkeys(_texts(turn.request)))
            elif model.startswith(("gpt-", "o1", "o3", "o4")):
                found["o200k_base"].update(dict.fromkeys(_texts(turn.request)))
    return {name: list(texts) for name, texts in found.items()}


def _texts(request: LLMRequest) -> Iterator[str]:
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, Text | ToolResult):
                yield part.text
    yield request.system or ""


def table(rows: list[Vendor]) -> str:
    """The table, a line for each vendor."""
    head = f"{'vendor':<14}{'counted':>6}{'left out':>9}{'by rule':>9}{'learnt':>9}{'4 of 5':>9}"
    return "\n".join([head, *(vendor.line for vendor in rows)])


if __name__ == "__main__":
    sys.stdout.write(table(vendors()) + "\n")
