"""Figure 19: the repetition guard stops loops within three repeats, and stops nothing else.

A trace is what a model does, step by step, and what comes of it. Looping ones begin with some steps
of work and then go round: the same call, a cycle of calls, the same words, or known calls in any
order. Legitimate ones look like that and are not: declared polling, pagination, retries whose
result changes, a file read again after each edit. All are drawn at random and run in real loops;
what is right is written down with the trace, not asked of the guard.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import anyio
from msgspec import Struct

from power_loop.governance import Policies, RepetitionGuard
from power_loop.hooks import TOOL_BEFORE
from power_loop.session.outcome import NoProgress
from tests.figures.result import FigureResult
from tests.governance.traces import Call, Step, played

_BACKENDS = ("asyncio", "trio")
_POLLING = ("job_status", "wait_for_build")
_TOOLS = ("read_file", "search", "run_tests", "list_dir", "fetch", "query", "git_status", "grep")
_WORDS = ("report", "tests", "river", "index", "module", "cache", "socket", "parser", "amber")
_REPEATS = 3


class _Trace(Struct, frozen=True):
    """What a model does; `loops` from the step of that number on in a circle of `period` steps.

    `injected` is what it is told when it has answered in words. In a circle that is not in `order`,
    something may be repeated sooner.
    """

    kind: str
    steps: tuple[Step, ...]
    loops: int | None = None
    period: int = 1
    injected: tuple[str, ...] = ("Go on.",)
    order: bool = True


def run(full: bool) -> FigureResult:
    """As many looping traces as legitimate ones, of each kind in turn."""
    each = 600 if full else 72
    tried: Counter[str] = Counter()
    failures: list[str] = []
    most = ran = 0
    for number, backend in enumerate(_BACKENDS):
        seeds = range(number * each // 2, (number + 1) * each // 2)
        done, wrong, repeats, executed = anyio.run(_many, seeds, backend=backend)
        tried += done
        most, ran = max(most, repeats), max(ran, executed)
        failures += [f"{backend}: {each}" for each in wrong]
    looping, legitimate = tried["looping"], tried["legitimate"]
    return FigureResult(
        looping + legitimate,
        tuple(failures),
        f"{looping} looping: {tried['stopped']} stopped, the latest after "
        f"{most} repeats of which {ran} ran; "
        f"{legitimate} legitimate: {tried['false stops']} stopped, "
        f"{tried['false refusals']} calls refused, {tried['false warnings']} warnings",
    )


async def _many(seeds: Sequence[int]) -> tuple[Counter[str], list[str], int, int]:
    tried: Counter[str] = Counter()
    failures: list[str] = []
    most, ran = 0, 0
    for seed in seeds:
        chance = Random(seed)
        looping = _LOOPING[seed % len(_LOOPING)](chance)
        wrong, repeats, executed = await _judged_loop(looping)
        most, ran = max(most, repeats), max(ran, executed)
        tried += Counter({"looping": 1, "stopped": not wrong})
        failures += [f"looping {seed} ({looping.kind}): {each}" for each in wrong]
        legitimate = _LEGITIMATE[seed % len(_LEGITIMATE)](chance)
        counts, wrong = await _judged_work(legitimate)
        tried += counts + Counter({"legitimate": 1})
        failures += [f"legitimate {seed} ({legitimate.kind}): {each}" for each in wrong]
    return tried, failures, most, ran


async def _judged_loop(
    trace: _Trace, guard: RepetitionGuard | None = None
) -> tuple[list[str], int, int]:
    """What is wrong, repeats that came to their end, and those of which a call was run."""
    guard = guard or RepetitionGuard(polling=_POLLING)
    result, player = await played(trace.steps, Policies(guard), injected=trace.injected)
    assert trace.loops is not None
    if not isinstance(result.outcome, NoProgress):
        return [f"not stopped: {result.outcome}"], 0, 0
    # Of the first time around, nobody can know yet.
    over = player.asked - trace.loops - trace.period
    if player.decided[-1] == TOOL_BEFORE.name:
        over -= 1  # what the model has asked for last does not happen
    repeats = over // trace.period
    last = max([step for step, _ in player.ran], default=0)
    executed = max(0, (last - trace.loops - trace.period) // trace.period)
    wrong = [f"stopped after {repeats} repeats"] * (repeats > _REPEATS)
    if trace.order and over < trace.period:
        wrong.append("stopped before anything was repeated")
    if not _is_told(trace, result.outcome.reason):
        wrong.append(f"the reason does not name it: {result.outcome.reason!r}")
    return wrong, repeats, executed


def _is_told(trace: _Trace, reason: str) -> bool:
    assert trace.loops is not None
    circle = trace.steps[trace.loops :]
    circle = circle[: trace.period] if trace.order else circle
    names = {call.name for step in circle if not isinstance(step, str) for call in step}
    return any(name in reason for name in names) if names else "answer" in reason


async def _judged_work(
    trace: _Trace, guard: RepetitionGuard | None = None
) -> tuple[Counter[str], list[str]]:
    guard = guard or RepetitionGuard(polling=_POLLING)
    result, player = await played(trace.steps, Policies(guard), injected=trace.injected)
    view = player.llm.requests[-1].messages
    warned = sum(message.meta == {"policy": "repetition"} for message in view)
    refused = sum(
        message.role == "tool" and "repeating yourself" in str(message) for message in view
    )
    stopped = result.status != "completed"
    counts = Counter({"false stops": stopped, "false refusals": refused, "false warnings": warned})
    return counts, [f"ended as {result.outcome}"] * stopped


# ── what models do ────────────────────────────────────────────────────────────────────────────────


def _text(chance: Random, words: int = 12) -> str:
    return " ".join(chance.choices(_WORDS, k=words))


def _call(chance: Random, name: str | None = None) -> Call:
    arguments = {"path": _text(chance, 2), "depth": chance.randint(1, 99), "all": True}
    return Call(name or chance.choice(_TOOLS), arguments, _text(chance))


def _work(chance: Random) -> list[Step]:
    """Steps that are all different."""
    return [
        [_call(chance) for _ in range(chance.randint(1, 3))] for _ in range(chance.randint(0, 9))
    ]


def _spelled(chance: Random, call: Call) -> Call:
    """The same call, written otherwise: keys in another order, other white space."""
    assert isinstance(call.arguments, dict)
    items = list(call.arguments.items())
    chance.shuffle(items)
    indent, separators = chance.choice([(None, (",", ":")), (2, None), (None, (" , ", " : "))])
    raw = json.dumps(dict(items), indent=indent, separators=separators)
    return Call(call.name, raw + " " * chance.randint(0, 2), call.result)


def _circling(chance: Random, kind: str, circle: Sequence[Step], **more: Any) -> _Trace:
    before = _work(chance)
    steps = (*before, *list(circle) * 20)
    return _Trace(kind, steps, len(before), len(circle), **more)


def _same_call(chance: Random) -> _Trace:
    return _circling(chance, "the same call", [[_call(chance)]])


def _same_batch(chance: Random) -> _Trace:
    batch = [_call(chance, name) for name in chance.sample(_TOOLS, 3)]
    before = _work(chance)
    again = [chance.sample(batch, 3) for _ in range(20)]
    return _Trace("the same calls at once, in any order", (*before, *again), len(before))


def _spelled_otherwise(chance: Random) -> _Trace:
    call, before = _call(chance), _work(chance)
    again = [[_spelled(chance, call)] for _ in range(20)]
    return _Trace("the same call, spelled otherwise", (*before, *again), len(before))


def _same_error(chance: Random) -> _Trace:
    broken = Call(chance.choice(_TOOLS), '{"path": "a', "")
    return _circling(chance, "a call that is no JSON", [[broken]])


def _cycle(period: int) -> Callable[[Random], _Trace]:
    def made(chance: Random) -> _Trace:
        circle = [[_call(chance, name)] for name in chance.sample(_TOOLS, period)]
        return _circling(chance, f"a cycle of {period}", circle)

    return made


def _polling_between(chance: Random) -> _Trace:
    """What is polled between the repeats does not hide them."""
    call, before = _call(chance), _work(chance)
    polled = Call(chance.choice(_POLLING), {"id": 7}, "running")
    return _Trace("a call beside one that polls", (*before, *([[call, polled]] * 20)), len(before))


def _same_words(chance: Random) -> _Trace:
    text = f"The {_text(chance, 14)} is done as you have asked."
    injected = tuple(f"Attempt {n}: it is not done yet." for n in range(40))
    return _circling(chance, "the same words", [text], injected=injected)


def _same_short_words(chance: Random) -> _Trace:
    before = _work(chance)
    # What a task begins with is not what it is told later, so the first "Done." is another one.
    steps = (*before, *(["Done."] * 20))
    return _Trace("the same short words", steps, len(before) + 1)


def _nearly_the_same_words(chance: Random) -> _Trace:
    words = _text(chance, 24)
    texts = [f"{words}. That was try {n}." for n in range(20)]
    before = _work(chance)
    return _Trace("nearly the same words", (*before, *texts), len(before) + 1)


def _words_and_calls(chance: Random) -> _Trace:
    """It says that it is done, is told that it is not, calls something, and says it again."""
    words, call = _text(chance, 14), _call(chance)
    before = _work(chance)
    circle: list[Step] = [[call], words]
    # The first call follows what came before, the others what is injected.
    return _Trace("words and calls in turn", (*before, *(circle * 20)), len(before) + 1, 2)


def _costs_without_change(chance: Random) -> _Trace:
    """Known calls in any order: each round costs, and nothing new comes up.

    Six such rounds are as much as the first repeat of a cycle, and three more as a further one.
    """
    known = [[_call(chance, name)] for name in chance.sample(_TOOLS, chance.randint(2, 4))]
    before: list[Step] = [*_work(chance), *known]
    steps = (*before, *[chance.choice(known) for _ in range(60)])
    return _Trace("known calls in any order", steps, len(before), 3, order=False)


_LOOPING: tuple[Callable[[Random], _Trace], ...] = (
    _same_call,
    _same_batch,
    _spelled_otherwise,
    _same_error,
    _cycle(2),
    _cycle(3),
    _cycle(4),
    _polling_between,
    _same_words,
    _same_short_words,
    _nearly_the_same_words,
    _words_and_calls,
    _costs_without_change,
)


# ── what looks like it ────────────────────────────────────────────────────────────────────────────


def _polling(chance: Random) -> _Trace:
    polled = Call(chance.choice(_POLLING), {"id": 7}, "running")
    steps: list[Step] = [[_call(chance)]]
    steps += [[polled]] * chance.randint(5, 40)
    return _Trace("polling, declared", (*steps, [Call(polled.name, {"id": 7}, "done")]))


def _pages(chance: Random) -> _Trace:
    name, same = chance.choice(_TOOLS), chance.random() < 0.5
    steps = [
        [Call(name, {"query": "x", "page": n}, "no match here" if same else _text(chance))]
        for n in range(chance.randint(5, 25))
    ]
    return _Trace("pagination", tuple(steps))


def _retries(chance: Random) -> _Trace:
    call = _call(chance)
    results = [f"503, retry in {n} s" for n in chance.sample(range(1, 90), chance.randint(2, 9))]
    return _Trace(
        "retries whose result changes",
        tuple([[Call(call.name, call.arguments, told)] for told in (*results, "200 fine")]),
    )


def _few_retries(chance: Random) -> _Trace:
    """After three times in vain, the fourth is refused: a warning has said so."""
    call, times = _call(chance), chance.randint(1, 3)
    steps: list[Step] = [[Call(call.name, call.arguments, "503")]] * times
    return _Trace(
        "a few retries in vain, then success",
        (*_work(chance), *steps, [Call(call.name, call.arguments, "fine")], *_work(chance)),
    )


def _read_after_edit(chance: Random) -> _Trace:
    steps: list[Step] = []
    for n in range(chance.randint(4, 12)):
        steps.append([Call("read_file", {"path": "a.py"}, f"version {n}: {_text(chance)}")])
        steps.append([Call("edit_file", {"path": "a.py", "new": _text(chance)}, "edited")])
    return _Trace("a file read again after each edit", tuple(steps))


def _edits_until_green(chance: Random) -> _Trace:
    """The tests fail in the same way for long, and something else is tried each time."""
    steps: list[Step] = []
    for _ in range(chance.randint(4, 12)):
        steps.append([Call("edit_file", {"path": "a.py", "new": _text(chance)}, "edited")])
        steps.append([Call("run_tests", {}, "3 failed")])
    return _Trace("other edits, the same failures", (*steps, [Call("run_tests", {}, "passed")]))


def _many_alike(chance: Random) -> _Trace:
    steps = [[Call("delete", {"path": f"old/{n}"}, "ok")] for n in range(chance.randint(5, 25))]
    return _Trace("the same done to many things", tuple(steps))


def _looked_over_again(chance: Random) -> _Trace:
    """Before each decision, all that is known is read once more."""
    files = [[Call("read_file", {"path": f"{n}.py"}, _text(chance))] for n in range(3)]
    edits: list[Step] = [
        [Call("edit_file", {"path": "b.py", "new": _text(chance)}, "edited")] for _ in range(3)
    ]
    steps: list[Step] = [*files]
    for edit in edits:
        steps += [edit, *files]
    return _Trace("known files read again between edits", tuple(steps))


def _chapters(chance: Random) -> _Trace:
    texts = [f"Chapter {n}. {_text(chance, 30)}" for n in range(chance.randint(4, 12))]
    return _Trace("chapters, asked for one by one", tuple(texts))


def _guesses(chance: Random) -> _Trace:
    return _Trace("guesses", tuple([str(n) for n in chance.sample(range(100), 12)]))


def _short_answers(chance: Random) -> _Trace:
    questions = tuple([f"And is {word} all right?" for word in chance.sample(_WORDS, 9)])
    return _Trace("one short answer to many questions", ("Yes.",) * 8, injected=questions)


def _one_changes(chance: Random) -> _Trace:
    """Of two calls at once, one is always the same."""
    fixed, name = _call(chance, "git_status"), chance.choice(_TOOLS[:3])
    return _Trace(
        "a batch in which one call changes",
        tuple([[fixed, _call(chance, name)] for _ in range(chance.randint(5, 15))]),
    )


_LEGITIMATE: tuple[Callable[[Random], _Trace], ...] = (
    _polling,
    _pages,
    _retries,
    _few_retries,
    _read_after_edit,
    _edits_until_green,
    _many_alike,
    _looked_over_again,
    _chapters,
    _guesses,
    _short_answers,
    _one_changes,
)
