"""Large outputs of tools: the model sees their ends, and can read the rest where it is kept."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from llm_client.types import Image, LLMRequest, Text, ToolResult
from power_loop import (
    AgentConfig,
    AgentLoop,
    ArtifactStore,
    FileArtifacts,
    Hooks,
    MemoryStore,
    OutputPolicy,
    Store,
    SubAgent,
    ToolContext,
    ToolOutput,
    read_output_tool,
    tool,
)
from power_loop.errors import StoreFull, ToolDefinitionError, ToolError, UsageError
from power_loop.events import SpillFailed, Stamped, TextRepaired
from power_loop.governance import Policies, RepetitionGuard
from power_loop.hooks import TOOL_AFTER, ToolAfter
from power_loop.runtime.artifacts.base import handle_of
from power_loop.runtime.stores.base import Steer
from power_loop.session.records import Record, ToolSettled
from power_loop.session.view import ARTIFACT_META, OUTPUT_META
from power_loop.tools import JsonSchemaTool
from tests.agent.scripted import Gate, Reply, Scripted, calls, says
from tests.agent.support import (
    EVERY_STORE,
    StoreKind,
    check_log,
    events_of,
    log_of,
    opened_store,
)

pytestmark = pytest.mark.anyio

WHOLE = "".join(f"<{n}>" for n in range(1, 1500))
SMALL = AgentConfig(result_limit=100)
HANDLE = handle_of(WHOLE)


@tool
async def huge() -> str:
    """Returns far too much."""
    return WHOLE


def settled(log: list[Record]) -> list[ToolSettled]:
    return [record for record in log if isinstance(record, ToolSettled)]


def result_of(record: ToolSettled) -> ToolResult:
    part = record.message.parts[0]
    assert isinstance(part, ToolResult)
    return part


async def outcome_of(
    wanted: Any, config: AgentConfig = SMALL, store: Store | None = None
) -> tuple[ToolSettled, list[Stamped], Store]:
    """How one call of a tool was settled, what readers saw, and the store. It replays as it was."""
    seen: list[Stamped] = []
    # One to be summarised has the model asked once more.
    llm = Scripted(calls(("a", wanted.name, {})), *[says("ok")] * 2)
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=[wanted], config=config, store=store) as loop:
            loop.events.subscribe(seen.append, inline=True)
            result = await loop.send("go")
            assert result.status == "completed"
            (record,) = settled(await check_log(loop, result.session_id))
    assert llm.illegal == []
    return record, seen, loop.store


async def kept_in(store: Store, seen: list[Stamped]) -> list[str]:
    """The handles of what is kept for the session."""
    assert isinstance(store, ArtifactStore)
    return list(await store.list_artifacts(seen[0].session))


# ── spilling ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", EVERY_STORE)
async def test_the_model_sees_the_ends_and_the_store_has_the_whole(
    kind: StoreKind, tmp_path: Path
) -> None:
    """In the database of the sessions, unless something else is wanted."""
    async with opened_store(kind, tmp_path) as store:
        record, seen, _ = await outcome_of(huge, store=store)
        text = result_of(record).text
        left_out = len(WHOLE) - 100
        line = f"{left_out} of {len(WHOLE)} characters are kept as {HANDLE}. Ask for less at a time"
        assert text == f"{WHOLE[:75]}\n[… {line} …]\n{WHOLE[-25:]}"
        assert record.message.meta == {ARTIFACT_META: HANDLE}
        assert isinstance(store, ArtifactStore)
        assert (await store.read_artifact(seen[0].session, HANDLE)).text == WHOLE
        assert events_of(SpillFailed, seen) == []


async def test_what_fits_is_shown_as_it_is_and_kept_nowhere_else() -> None:
    """To the character."""

    @tool
    async def fitting() -> str:
        """Returns just what is allowed."""
        return "x" * 100

    record, seen, store = await outcome_of(fitting)
    assert result_of(record).text == "x" * 100
    assert record.message.meta is None
    assert await kept_in(store, seen) == []


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00"))), st.integers(1, 40)
)
@settings(max_examples=60, deadline=None)
def test_what_is_seen_and_what_is_kept_are_the_same_output(parts: list[str], limit: int) -> None:
    """Of however many parts, the ends that are seen have exactly the limit between them."""

    @tool
    async def some() -> ToolOutput:
        """Returns some parts."""
        return ToolOutput((image, *map(Text, parts)))

    image = Image(url="https://example.com/x.png")

    async def main() -> None:
        record, seen, store = await outcome_of(some, AgentConfig(result_limit=limit))
        whole, result = "".join(parts), result_of(record)
        assert result.content[0] == image
        if len(whole) <= limit:
            assert result.text == whole
            return
        assert isinstance(store, ArtifactStore)
        (handle,) = await kept_in(store, seen)
        assert (await store.read_artifact(seen[0].session, handle)).text == whole
        head = limit * 3 // 4
        assert result.text.startswith(f"{whole[:head]}\n[… {len(whole) - limit} of {len(whole)} ")
        assert result.text.endswith(f" …]\n{whole[len(whole) - limit + head :]}")

    anyio.run(main)


async def test_hooks_see_what_the_model_sees() -> None:
    """The bounded result; the whole is where its handle says."""
    seen: list[str] = []
    hooks = Hooks()

    @hooks.on(TOOL_AFTER)
    def look(context: ToolAfter) -> None:
        seen.append(context.result.text)

    llm = Scripted(calls(("a", "huge", {})), says("ok"))
    async with AgentLoop(llm, tools=[huge], config=SMALL, hooks=hooks) as loop:
        result = await loop.send("go")
        (record,) = settled(await log_of(loop, result.session_id))
    assert seen == [result_of(record).text]
    assert HANDLE in seen[0]


async def test_text_that_no_store_can_hold_is_kept_in_the_form_the_model_sees() -> None:
    """And an event says that it was replaced."""

    @tool
    async def odd() -> str:
        """Returns odd text."""
        return "\x00" + "x" * 1000 + "\ud800"

    record, seen, store = await outcome_of(odd)
    assert isinstance(store, ArtifactStore)
    (handle,) = await kept_in(store, seen)
    whole = await store.read_artifact(seen[0].session, handle)
    assert whole.text == "\u2400" + "x" * 1000 + "\ufffd"
    assert result_of(record).text.endswith("x\ufffd")
    assert len(events_of(TextRepaired, seen)) == 1


async def test_the_message_of_an_error_is_bounded_as_well() -> None:
    """Whoever raises megabytes."""

    @tool
    async def fails() -> str:
        """Fails at length."""
        raise ToolError(WHOLE)

    record, _, _ = await outcome_of(fails)
    assert result_of(record).is_error
    assert HANDLE in result_of(record).text
    assert len(result_of(record).text) < 300


async def test_the_same_output_again_is_no_progress_however_long_it_is() -> None:
    """Its handle follows from its text, so that who compares results is not deceived."""
    llm = Scripted(by=lambda request: calls((f"c{len(request.messages)}", "huge", {})))
    guards = [Policies(RepetitionGuard())]
    async with AgentLoop(llm, tools=[huge], config=SMALL, extensions=guards) as loop:
        result = await loop.send("go")
        assert result.status == "no_progress"
        assert isinstance(loop.store, MemoryStore)
        assert list(await loop.store.list_artifacts(result.session_id)) == [HANDLE]


async def test_ten_megabytes_pass_in_a_moment_and_stay_out_of_the_view() -> None:
    """Also through a database."""

    @tool
    async def flood() -> str:
        """Returns ten megabytes."""
        return "ä" * 5_000_000

    record, seen, store = await outcome_of(flood)
    assert len(result_of(record).text) < 300
    assert isinstance(store, ArtifactStore)
    (handle,) = await kept_in(store, seen)
    page = await store.read_artifact(seen[0].session, handle, 4_999_990, 100)
    assert (page.text, page.total) == ("ä" * 10, 5_000_000)


# ── what goes wrong ───────────────────────────────────────────────────────────────────────────────


class Failing(MemoryStore):
    """Keeps sessions, but large outputs only as `how` has it."""

    def __init__(self, how: Callable[[], Any]) -> None:
        super().__init__()
        self.how = how

    async def put_artifact(self, session: str, handle: str, text: str) -> None:
        await self.how()
        await super().put_artifact(session, handle, text)


LEFT_OUT = f"{len(WHOLE) - 100} of {len(WHOLE)} characters left out"
CUT = (
    f"{WHOLE[:75]}\n[… {LEFT_OUT}: the rest could not be kept. Ask for less at a time …]\n"
    f"{WHOLE[-25:]}"
)


@pytest.mark.parametrize(
    ("kind", "text"), [(StoreFull, "no space is left"), (OSError, "No space"), (KeyError, "")]
)
async def test_a_store_that_fails_costs_the_middle_and_not_the_run(
    kind: type[Exception], text: str
) -> None:
    """The model is told, and so are readers."""

    async def fail() -> None:
        raise kind(text) if text else kind()

    record, seen, _ = await outcome_of(huge, store=Failing(fail))
    assert result_of(record).text == CUT
    assert record.message.meta is None
    (failed,) = events_of(SpillFailed, seen)
    assert failed == SpillFailed("a", "huge", kind.__name__, text or "KeyError")


def test_a_store_that_hangs_does_not_hold_the_run() -> None:
    """After ten seconds it is given up."""

    async def main() -> None:
        began = trio.current_time()
        llm = Scripted(calls(("a", "huge", {})), says("ok"))
        seen: list[Stamped] = []
        store = Failing(anyio.sleep_forever)
        async with AgentLoop(llm, tools=[huge], config=SMALL, store=store) as loop:
            loop.events.subscribe(seen.append, inline=True)
            result = await loop.send("go")
            (record,) = settled(await log_of(loop, result.session_id))
        assert result_of(record).text == CUT
        assert [e.error_type for e in events_of(SpillFailed, seen)] == ["TimeoutError"]
        assert "longer than 10 s" in events_of(SpillFailed, seen)[0].message
        assert 10 <= trio.current_time() - began < 12

    trio.run(main, clock=MockClock(autojump_threshold=0.01))


class _Plain:
    """A store of somebody else's making, which keeps sessions only."""

    def __init__(self) -> None:
        self._store = MemoryStore()

    def __getattr__(self, name: str) -> Any:
        if "artifact" in name:
            raise AttributeError(name)
        return getattr(self._store, name)


async def test_where_nothing_is_kept_the_middle_is_left_out() -> None:
    """A store need not keep large outputs."""
    record, seen, _ = await outcome_of(huge, store=cast("Store", _Plain()))
    assert f"[… {LEFT_OUT}: the result is over the limit of 100. " in result_of(record).text
    assert events_of(SpillFailed, seen) == []


async def test_a_run_that_is_cancelled_while_an_output_is_kept_does_not_lose_it() -> None:
    """The call has finished, and what could be shown of it is in the log."""
    gate = Gate()
    llm = Scripted(calls(("a", "huge", {})))
    async with AgentLoop(llm, tools=[huge], config=SMALL, store=Failing(gate.wait)) as loop:
        await loop.store.create("s")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(loop.send, "go", "s")
            await gate.reached.wait()
            assert await loop.cancel("s")
        (record,) = settled(await check_log(loop, "s"))
    assert record.how == "finished"
    assert result_of(record).text == CUT


async def test_a_message_that_cannot_wait_does_not_wait_for_an_output_to_be_kept() -> None:
    """The call has finished; the run goes on with what can be shown."""
    gate = Gate()
    llm = Scripted(calls(("a", "huge", {})), says("heard"))
    with anyio.fail_after(5):
        async with AgentLoop(llm, tools=[huge], config=SMALL, store=Failing(gate.wait)) as loop:
            await loop.store.create("s")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(loop.send, "go", "s")
                await gate.reached.wait()
                await loop.steer("s", "stop", mode="interrupt")
            (record,) = settled(await check_log(loop, "s"))
    assert (record.how, result_of(record).text) == ("finished", CUT)


async def test_what_comes_late_from_the_background_is_kept_too() -> None:
    """What is told of it has its handle."""
    gate = Gate()

    @tool(on_cancel="background")
    async def slow() -> str:
        """Goes on."""
        await gate.wait()
        return WHOLE

    llm = Scripted(calls(("a", "slow", {})))
    store = MemoryStore()
    with anyio.fail_after(5):
        async with AgentLoop(llm, tools=[slow], config=SMALL, store=store) as loop:
            await store.create("s")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(loop.send, "go", "s")
                await gate.reached.wait()
                await loop.cancel("s")
            gate.opened.set()
        (item,) = await store.inbox("s")
    assert isinstance(item.item, Steer)
    assert HANDLE in item.item.message.text
    assert (await store.read_artifact("s", HANDLE)).text == WHOLE


# ── what a tool has to say about it ───────────────────────────────────────────────────────────────


def policed(policy: OutputPolicy, give: str = WHOLE) -> JsonSchemaTool:
    """A tool with this policy."""

    def answer(_: dict[str, Any], context: ToolContext[Any]) -> str:
        return give

    return JsonSchemaTool("some", "Gives something.", {"type": "object"}, answer, output=policy)


async def test_a_truncated_output_is_kept_nowhere() -> None:
    """Within a limit of the tool's own, if it has one."""
    record, seen, store = await outcome_of(policed(OutputPolicy.truncate(40)))
    text = result_of(record).text
    assert text.startswith(WHOLE[:30] + "\n[… ")
    assert "characters left out: the result is over the limit of 40" in text
    assert record.message.meta is None
    assert await kept_in(store, seen) == []


async def test_a_preserved_output_is_shown_whole_and_marked() -> None:
    """So that it is left alone when the view is shortened."""
    record, seen, store = await outcome_of(policed(OutputPolicy.preserve()))
    assert result_of(record).text == WHOLE
    assert record.message.meta == {OUTPUT_META: "preserve"}
    assert await kept_in(store, seen) == []


async def test_even_a_preserved_output_ends_where_no_model_reads_on() -> None:
    """At a million characters."""
    record, seen, store = await outcome_of(policed(OutputPolicy.preserve(), "x" * 1_000_001))
    (handle,) = await kept_in(store, seen)
    assert record.message.meta == {OUTPUT_META: "preserve", ARTIFACT_META: handle}
    assert len(result_of(record).text) < 1_000_300


@pytest.mark.parametrize("length", [50, 5000])
async def test_an_output_to_be_summarised_is_marked_if_it_is_long(length: int) -> None:
    """And kept, so that the summary can be made of all of it."""
    record, seen, store = await outcome_of(policed(OutputPolicy.summarise(), "x" * length))
    if length == 50:
        assert record.message.meta is None
        return
    (handle,) = await kept_in(store, seen)
    assert record.message.meta == {OUTPUT_META: "summarise", ARTIFACT_META: handle}


def whole_kept(length: int, handle: str) -> str:
    """What stands under a projection."""
    return (
        f"\n[… All {length} characters of the output are kept as {handle}. "
        "Ask for less at a time …]"
    )


async def test_a_projection_is_what_the_model_sees_and_the_whole_is_kept() -> None:
    """Whatever the length, for both forms of an answer."""

    def count(output: ToolOutput) -> str:
        return f"{output.text.count('<')} items"

    def first(output: ToolOutput) -> ToolOutput:
        return ToolOutput.of(output.text[:3])

    for function, shown in ((count, "2 items"), (first, "<1>")):
        record, seen, store = await outcome_of(policed(OutputPolicy.project(function), "<1><2>"))
        handle = handle_of("<1><2>")
        assert result_of(record).text == shown + whole_kept(6, handle)
        assert await kept_in(store, seen) == [handle]


async def test_a_projection_is_bounded_as_well() -> None:
    """One that leaves all as it is makes no difference at all."""
    double = OutputPolicy.project(lambda output: output.text * 2, 50)
    record, _, _ = await outcome_of(policed(double))
    text = result_of(record).text
    left_out = f"{len(WHOLE) * 2 - 50} of {len(WHOLE) * 2} characters left out"
    assert f"[… {left_out}: the result is over the limit of 50. " in text
    assert text.endswith(whole_kept(len(WHOLE), HANDLE))
    record, seen, store = await outcome_of(policed(OutputPolicy.project(lambda out: out), "short"))
    assert result_of(record).text == "short"
    assert await kept_in(store, seen) == []


async def test_a_projection_that_fails_is_told_and_the_output_spilled() -> None:
    """What a tool gave is not lost by that."""

    def wrong(output: ToolOutput) -> str:
        raise ValueError(f"{len(output.text)} is too much")

    for function, error in ((wrong, "ValueError"), (lambda _: 7, "TypeError")):  # pyright: ignore[reportUnknownLambdaType,reportUnknownVariableType]
        policy = OutputPolicy.project(cast("Any", function))
        record, seen, _ = await outcome_of(policed(policy))
        assert HANDLE in result_of(record).text
        (failed,) = events_of(SpillFailed, seen)
        assert failed.error_type == error


async def test_an_error_is_no_output_to_be_projected() -> None:
    """It is shown as it is."""

    @tool(output=OutputPolicy.project(lambda _: "all is well"))
    async def fails() -> str:
        """Fails."""
        raise ToolError("no")

    record, _, _ = await outcome_of(fails)
    assert result_of(record).text == "no"


def test_a_policy_that_cannot_be_is_refused_at_once() -> None:
    """Where it is made, or where a tool is."""

    def plain() -> str:
        """Does nothing."""
        return ""

    for limit in (0, -1, True, 1.5, "9"):
        with pytest.raises(ToolDefinitionError, match="is 1 character or more"):
            OutputPolicy.spill(cast("Any", limit))
    for wrong in (lambda: OutputPolicy("project"), lambda: OutputPolicy("spill", None, str)):
        with pytest.raises(ToolDefinitionError, match="a projection, and nothing else"):
            wrong()
    with pytest.raises(ToolDefinitionError, match="is no OutputPolicy"):
        policed(cast("Any", "truncate"))
    with pytest.raises(ToolDefinitionError, match="is no OutputPolicy"):
        tool(output=cast("Any", "truncate"))(plain)


def test_what_keeps_no_outputs_is_refused_when_the_loop_is_made() -> None:
    """A path, for one, is not what keeps them there."""
    with pytest.raises(UsageError, match=r"use FileArtifacts\(directory\)"):
        AgentLoop(Scripted(), config=AgentConfig(artifacts=cast("Any", "outputs")))


async def test_a_method_keeps_its_policy_when_it_is_taken_from_an_instance() -> None:
    """As it keeps all else."""

    class Log:
        """Has a tool."""

        @tool(output=OutputPolicy.truncate())
        async def read(self) -> str:
            """Reads."""
            return WHOLE

    record, seen, store = await outcome_of(Log().read)
    assert "characters left out" in result_of(record).text
    assert await kept_in(store, seen) == []


async def test_the_answer_of_a_sub_agent_is_bounded_as_its_tool_has_it() -> None:
    """It belongs to the session above, which can read it."""
    short = OutputPolicy.project(lambda output: f"{len(output.text)} characters of advice")

    def answer(request: LLMRequest) -> Reply:
        if request.system == "Advise.":
            return says(WHOLE)
        if len(request.messages) == 1:
            return calls(("a", "long", {"task": "t"}), ("b", "short", {"task": "t"}))
        return says("done")

    agents = [
        SubAgent("long", "Advises.", system_prompt="Advise."),
        SubAgent("short", "Advises.", system_prompt="Advise.", output=short),
    ]
    async with AgentLoop(Scripted(by=answer), tools=agents, config=SMALL) as loop:
        result = await loop.send("go")
        log = await check_log(loop, result.session_id)
        assert isinstance(loop.store, MemoryStore)
        assert list(await loop.store.list_artifacts(result.session_id)) == [HANDLE]
    told = [result_of(record).text for record in settled(log)]
    assert told[0].startswith(WHOLE[:75] + "\n[… ")
    assert told[1].startswith(f"{len(WHOLE)} characters of advice\n[… All ")


# ── reading on ────────────────────────────────────────────────────────────────────────────────────


async def test_a_model_reads_on_where_it_was_told_to() -> None:
    """Page after page, until it has the whole; no page is cut or kept again."""
    store = MemoryStore()
    got: list[str] = []

    def answer(request: LLMRequest) -> Reply:
        last = request.messages[-1]
        n = len(request.messages)
        if last.role == "user":
            return calls(("a", "huge", {}))
        text = str(last.parts)
        result = last.parts[0]
        assert isinstance(result, ToolResult)
        if n == 3:
            got.append(WHOLE[:75])
            found = re.search(r'read_output\(handle="(\w+)", offset=(\d+)\)', text)
        else:
            got.append(result.text.partition("\n")[2])
            found = re.search(r"of (output_\w+); go on at offset=(\d+)\]", text)
        if found is None:
            return says("I have read it all")
        handle, offset = found.groups()
        wanted = {"handle": handle, "offset": int(offset), "length": 2000}
        return calls((f"r{n}", "read_output", wanted))

    llm = Scripted(by=answer)
    tools = [huge, read_output_tool(store)]
    with anyio.fail_after(10):
        async with AgentLoop(llm, tools=tools, config=SMALL, store=store) as loop:
            result = await loop.send("go")
            await check_log(loop, result.session_id)
            assert list(await store.list_artifacts(result.session_id)) == [HANDLE]
    assert result.status == "completed"
    assert "".join(got) == WHOLE
    assert llm.illegal == []


async def _read(store: ArtifactStore, **arguments: Any) -> str:
    context = ToolContext.for_test(session_id="s")
    return (await read_output_tool(store).invoke(json.dumps(arguments), context)).text


async def test_a_page_says_what_it_is() -> None:
    """Where it ends and how to go on; also one that has nothing."""
    store = MemoryStore()
    await store.create("s")
    await store.put_artifact("s", "h", "0123456789" * 3000)
    assert await _read(store, handle="h", offset=2, length=3) == (
        "[characters 2 to 5 of 30000 of h; go on at offset=5]\n234"
    )
    assert (await _read(store, handle="h")).startswith("[characters 0 to 8000 of 30000 of h; ")
    assert await _read(store, handle="h", offset=29998) == (
        "[characters 29998 to 30000 of 30000 of h; the end]\n89"
    )
    assert await _read(store, handle="h", offset=30000) == (
        "[h has 30000 characters; none from 30000 on]"
    )
    for wrong in ({"offset": -1}, {"length": 0}, {"length": 20_001}, {"search": ""}):
        with pytest.raises(ToolError, match="invalid_arguments"):
            await _read(store, handle="h", **wrong)


@pytest.mark.parametrize("handle", ["output_0000000000000000", "../../etc/passwd", "", "x" * 999])
async def test_a_handle_of_nothing_is_told_with_what_to_do(handle: str, tmp_path: Path) -> None:
    """As one of another session is."""
    memory, files = MemoryStore(), FileArtifacts(tmp_path)
    for session in ("s", "other"):
        await memory.create(session)
    await memory.put_artifact("other", "output_0000000000000000", "secret")
    await files.put_artifact("other", "output_0000000000000000", "secret")
    for store in (memory, files):
        with pytest.raises(ToolError, match=r"is kept for this session\. Take a handle"):
            await _read(store, handle=handle)
        with pytest.raises(ToolError, match="make that call again"):
            await _read(store, handle=handle, search="secret")


async def test_a_search_says_where_something_is_and_where_to_go_on() -> None:
    """With what is around it; twenty places at a time."""
    store = MemoryStore()
    await store.create("s")
    await store.put_artifact("s", "h", "".join(f"line {n}: ERROR\n" for n in range(30)))
    told = await _read(store, handle="h", search="ERROR")
    assert told.splitlines()[0] == "['ERROR' in h, by offset; go on at offset=299]"
    assert told.splitlines()[1].startswith("8: …line 0: ERROR line 1: ERROR")
    assert len(told.splitlines()) == 21
    rest = await _read(store, handle="h", search="ERROR", offset=299)
    assert rest.splitlines()[0] == "['ERROR' in h, by offset; there is no other]"
    assert len(rest.splitlines()) == 11
    assert await _read(store, handle="h", search="error") == "['error' is not in h from there on]"


@given(
    st.text("ab", max_size=60),
    st.text("ab", min_size=1, max_size=4),
    st.integers(0, 30),
    st.integers(999_960, 1_000_010),
)
@settings(max_examples=40, deadline=None)
def test_a_search_finds_what_there_is_also_across_its_windows(
    text: str, wanted: str, offset: int, before: int
) -> None:
    """The places that a plain search of the whole finds, up to twenty."""
    whole = "." * before + text

    async def main() -> str:
        store = MemoryStore()
        await store.create("s")
        await store.put_artifact("s", "h", whole)
        return await _read(store, handle="h", search=wanted, offset=offset)

    places: list[int] = []
    at = whole.find(wanted, offset)
    while at >= 0:
        places.append(at)
        at = whole.find(wanted, at + len(wanted))
    told = anyio.run(main)
    found = [int(line.partition(":")[0]) for line in told.splitlines()[1:]]
    assert found == places[:20]
