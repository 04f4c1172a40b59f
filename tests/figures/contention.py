"""Several processes send to one session; some are stopped while they hold its lease, and woken."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from msgspec import Struct

from power_loop.events import Stamped, is_record
from power_loop.session.outcome import Crashed
from power_loop.session.records import Record, RunClosed, RunOpened
from tests.figures.senders import SESSION
from tests.session.checker import violations
from tests.stores.places import Kind, new_place, open_place

__all__ = ["Contest", "Outcome", "contend"]

_ROOT = Path(__file__).resolve().parents[2]
_END_SECONDS = 600


class Contest(Struct, frozen=True):
    """So many processes, each sending so many messages; `lease` in seconds. At about every
    `every`-th point of a run its process is stopped until its lease was taken over; 0 for never.
    """

    processes: int
    messages: int
    lease: float = 30.0
    every: int = 0


class Outcome(Struct):
    """What came of a contest. `refused` are writes under a lease that had been taken over."""

    failures: list[str]
    stops: int = 0
    takeovers: int = 0
    refused: int = 0


class _Sender:
    """A process that sends, and who stops and wakes it."""

    def __init__(self, name: str, place: str, contest: Contest, diary: Path) -> None:
        self.name = name
        self.stopped = False
        self.over = False
        self.stops = 0
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-W", "error", "-m", "tests.figures.senders", place, name),
                *(str(contest.messages), str(contest.lease), str(contest.every), str(diary)),
            ],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def says(self) -> str:
        """Its next line; empty at its end."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go(self) -> None:
        """Lets it go on."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def close(self) -> None:
        """Ends it, if need be."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()


def contend(kind: Kind, contest: Contest) -> Outcome:
    """Has them send; what is wrong with what came of it."""
    if not hasattr(signal, "SIGSTOP"):
        pytest.skip("processes can be stopped and woken on POSIX only")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        place, diary = new_place(kind, folder), folder / "diary"
        senders = [_Sender(f"p{n}", place, contest, diary) for n in range(contest.processes)]
        try:
            codes = _watch_all(senders, contest, diary)
        finally:
            for sender in senders:
                sender.close()
        outcome = Outcome([f"a sender ended with {code}" for code in codes if code])
        outcome.stops = sum(sender.stops for sender in senders)
        log = anyio.run(_read, place)
        _judge(outcome, contest, log, [line.split() for line in diary.read_text().splitlines()])
    return outcome


async def _read(place: str) -> Sequence[Stamped]:
    async with open_place(place) as store:
        log = await store.read(SESSION)
        await store.release(await store.claim(SESSION))
        assert await store.check() == len(log)
        return log


def _watch_all(senders: Sequence[_Sender], contest: Contest, diary: Path) -> list[int]:
    """Starts them at the same moment and stops them as they wish; their exit codes."""
    for sender in senders:
        assert sender.says() == "ready"
    for sender in senders:
        sender.go()
    threads = [
        threading.Thread(target=_watch, args=(sender, senders, contest, diary))
        for sender in senders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_END_SECONDS)
        assert not thread.is_alive(), "a sender did not come to its end"
    return [sender.process.wait(30) for sender in senders]


def _watch(sender: _Sender, senders: Sequence[_Sender], contest: Contest, diary: Path) -> None:
    rng = random.Random(sender.name)
    while sender.says() == "here":
        before, began = diary.stat().st_size, time.monotonic()
        sender.stopped = True
        sender.process.send_signal(signal.SIGSTOP)
        sender.stops += 1
        while not _taken_over(diary, before, sender.name):
            alone = all(each is sender or each.stopped or each.over for each in senders)
            if time.monotonic() > began + contest.lease * (1.5 if alone else 20):
                break
            time.sleep(0.01)
        time.sleep(rng.random() * contest.lease / 2)
        sender.process.send_signal(signal.SIGCONT)
        sender.stopped = False
        sender.go()
    sender.over = True


def _taken_over(diary: Path, after: int, name: str) -> bool:
    """Whether anybody but `name` has claimed the session since the diary had `after` bytes."""
    with diary.open("rb") as file:
        file.seek(after)
        lines = [line.split() for line in file.read().decode().splitlines()]
    return any(words[1:2] == ["claimed"] and words[0] != name for words in lines)


# ── judging ───────────────────────────────────────────────────────────────────────────────────────


def _judge(
    outcome: Outcome, contest: Contest, log: Sequence[Stamped], diary: Sequence[Sequence[str]]
) -> None:
    records = [stamped.event for stamped in log if is_record(stamped.event)]
    outcome.takeovers = sum(
        isinstance(record, RunClosed) and isinstance(record.outcome, Crashed) for record in records
    )
    outcome.failures += violations(records, idempotent=lambda _: False)
    outcome.failures += _of_inputs(contest, records)
    outcome.failures += _of_runs(log)
    outcome.failures += _of_calls(diary, outcome.takeovers)
    outcome.failures += _of_writes(outcome, diary)
    outcome.failures += [" ".join(words) for words in diary if words[1] == "illegal"]
    answers = [words[3] for words in diary if words[1] == "answered"]
    if set(answers) - {"completed"} or (not contest.every and outcome.takeovers):
        outcome.failures.append(f"runs ended {Counter(answers)}, {outcome.takeovers} taken over")


def _of_inputs(contest: Contest, records: Sequence[Record]) -> list[str]:
    """Lost and doubled messages; those of one process that sends one by one are in order."""
    inputs = [m.text for r in records if isinstance(r, RunOpened) for m in r.input]
    names = range(contest.processes)
    sent = {f"p{p}": [f"p{p} {n}" for n in range(contest.messages)] for p in names}
    found = [
        f"{text!r} is there {times} times"
        for text, times in Counter(inputs).items()
        if times != 1 or text not in sent[text.split()[0]]
    ]
    lost = {text for texts in sent.values() for text in texts} - set(inputs)
    found += [f"{text!r} is lost" for text in sorted(lost)]
    if contest.every:
        for name, texts in sent.items():
            if [text for text in inputs if text.split()[0] == name] != texts:
                found.append(f"the messages of {name} are not in order")
    return found


def _of_runs(log: Sequence[Stamped]) -> list[str]:
    """Runs whose records do not lie together."""
    runs = [
        stamped.run
        for stamped, before in zip(log, [None, *log], strict=False)
        if before is None or stamped.run != before.run
    ]
    return [f"run {run!r} interleaves" for run, times in Counter(runs).items() if times > 1]


def _of_calls(diary: Sequence[Sequence[str]], takeovers: int) -> list[str]:
    """Model calls and tools that were made too often."""
    asked = Counter(words[2] for words in diary if words[1] == "asked")
    again = sum(times - 1 for times in asked.values())
    begun = Counter(words[2] for words in diary if words[1] == "begin")
    found = [f"tool call {id} ran {times} times" for id, times in begun.items() if times > 1]
    if again > takeovers:
        found.append(f"{again} model calls were made again, for {takeovers} takeovers")
    return found


def _of_writes(outcome: Outcome, diary: Sequence[Sequence[str]]) -> list[str]:
    """What was tried under a lease that somebody else had taken over must have been refused."""
    found: list[str] = []
    newest, stale = 0, set[str]()
    for name, what, *words in diary:
        if what == "claimed":
            newest = max(newest, int(words[0]))
        elif what == "appending" and int(words[0]) < newest:
            stale.add(words[0])
        elif what == "appended" and words[0] in stale:
            found.append(f"{name} wrote under the stale lease {words[0]}")
        elif what == "refused":
            outcome.refused += 1
    told = sum(words[1] == "fenced" for words in diary)
    refused = {words[2] for words in diary if words[1] == "refused"}
    if stale - refused:
        found.append(f"stale writes under {stale - refused} were not refused")
    if told != len(refused):
        found.append(f"{len(refused)} leases were refused, but {told} runs ended telling so")
    return found
