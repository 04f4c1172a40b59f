"""Each hook point around tools: where it fires, with what, and what its directives do."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from llm_client.types import Text, ToolResult
from power_loop.errors import HookError, ToolError
from power_loop.hooks import (
    ROUND_DECIDE,
    TOOL_AFTER,
    TOOL_BEFORE,
    TOOL_ERROR,
    TOOLS_BATCH_AFTER,
    TOOLS_BATCH_BEFORE,
    Break,
    Retry,
    RoundDecide,
    Skip,
    Suspend,
    ToolAfter,
    ToolBefore,
    ToolErrorRaised,
    ToolsBatchAfter,
    ToolsBatchBefore,
)
from power_loop.pipeline.ports import ToolTraits
from power_loop.session.outcome import (
    Completed,
    Failed,
    Stopped,
)
from power_loop.session.records import (
    ToolSettled,
    ToolStarted,
)
from tests.pipeline.fakes import FakePorts, FakeTool, Killed
from tests.pipeline.scripts import (
    Handlers,
    broken,
    call,
    calls,
    contexts,
    die,
    run,
    send,
    succeed,
    text,
)
from tests.session.checker import violations

TWO = calls(call("c1", "read", '{"n":1}'), call("c2", "list"), words="look")


def tools() -> dict[str, FakeTool]:
    """A reader and a lister."""
    return {"read": FakeTool("contents"), "list": FakeTool("names")}


def how(io: FakePorts) -> dict[str, str]:
    """How each call was settled."""
    return {r.message.id.removesuffix(".result"): r.how for r in io.of(ToolSettled)}


# ── round.decide, tools.batch.* ───────────────────────────────────────────────────────────────────


def test_round_decide_skip_answers_every_call_with_its_output() -> None:
    """Nothing runs, the next round sees the output."""
    io = FakePorts([TWO, text("ok")], tools(), {ROUND_DECIDE: lambda _: Skip("not now")})
    assert send(io) == Completed("ok")
    assert io.effects == []
    assert io.results() == {"c1": "not now", "c2": "not now"}
    assert how(io) == {"c1": "skipped", "c2": "skipped"}
    (context,) = contexts(io, RoundDecide)
    assert [c.id for c in context.tool_calls] == ["c1", "c2"]
    assert context.assistant_text == "look"


def test_round_decide_break_ends_the_run_with_every_call_settled() -> None:
    """Unlike in the systems before us, nothing is left pending."""
    io = FakePorts([TWO], tools(), {ROUND_DECIDE: lambda _: Break("no tools today")})
    assert send(io) == Stopped("no tools today")
    assert how(io) == {"c1": "not_run", "c2": "not_run"}
    assert violations(io.log, closed=True) == []


def test_batch_before_skip_answers_every_call_with_its_output() -> None:
    """After round.decide has let them pass."""
    hooks: Handlers = {
        ROUND_DECIDE: lambda _: None,
        TOOLS_BATCH_BEFORE: lambda _: Skip("dry run"),
        TOOLS_BATCH_AFTER: lambda _: None,
        TOOL_BEFORE: lambda _: None,
    }
    io = FakePorts([TWO, text("ok")], tools(), hooks)
    assert send(io) == Completed("ok")
    assert io.names() == ["round.decide", "tools.batch.before", "tools.batch.after"]
    assert io.results() == {"c1": "dry run", "c2": "dry run"}
    (context,) = contexts(io, ToolsBatchBefore)
    assert len(context.tool_calls) == 2


def test_batch_after_has_the_results_in_call_order() -> None:
    """However they came in; refused ones are among them."""
    wanted = calls(call("c1"), call("c0", arguments="{"), call("c2", "list"))
    hooks: Handlers = {TOOLS_BATCH_AFTER: lambda _: None}
    io = FakePorts([wanted, text("ok")], tools(), hooks, choose=lambda n: n - 1)
    send(io)
    (context,) = contexts(io, ToolsBatchAfter)
    assert [result.call_id for result in context.results] == ["c1", "c0", "c2"]
    assert [result.is_error for result in context.results] == [False, True, False]


def test_the_batch_is_not_decided_upon_twice() -> None:
    """A resumed batch has been judged; only what is still open is gone through."""
    hooks: Handlers = {ROUND_DECIDE: lambda _: None, TOOLS_BATCH_BEFORE: lambda _: None}
    io = FakePorts([TWO], tools() | {"list": FakeTool(die)}, hooks)
    with pytest.raises(Killed):
        send(io)
    again = FakePorts([text("ok")], tools(), hooks, log=io.log[: io.durable], prefix="j")
    assert succeed(again) == Completed("ok")
    assert again.fired == []


# ── tool.before ───────────────────────────────────────────────────────────────────────────────────


def test_tool_before_fires_in_call_order_before_any_tool_runs() -> None:
    """Whatever the order in which they then run."""
    seen: list[int] = []
    io = FakePorts([TWO, text("ok")], tools(), choose=lambda n: n - 1)
    io.hooks = {TOOL_BEFORE.name: lambda _: seen.append(len(io.effects))}
    send(io)
    assert seen == [0, 0]
    assert [c.call.id for c in contexts(io, ToolBefore)] == ["c1", "c2"]
    first = contexts(io, ToolBefore)[0]
    assert (first.name, first.arguments) == ("read", '{"n":1}')


def test_tool_before_skip_stands_in_for_the_tool() -> None:
    """Its siblings run."""
    hooks: Handlers = {TOOL_BEFORE: lambda c: Skip("no") if c.name == "read" else None}
    io = FakePorts([TWO, text("ok")], tools(), hooks)
    assert send(io) == Completed("ok")
    assert io.effects == [("c2", "list", "{}")]
    assert io.results() == {"c1": "no", "c2": "names"}
    assert how(io) == {"c1": "skipped", "c2": "finished"}


def test_what_tool_before_rewrites_is_what_runs_and_what_is_recorded() -> None:
    """The call in the view stays as the model wrote it."""
    hooks: Handlers = {
        TOOL_BEFORE: lambda c: (
            replace(c, name="list", arguments='{"safe":true}') if c.name == "read" else None
        )
    }
    io = FakePorts([TWO, text("ok")], tools(), hooks)
    send(io)
    assert ("c1", "list", '{"safe":true}') in io.effects
    started = io.of(ToolStarted)[0]
    assert (started.name, started.arguments) == ("list", '{"safe":true}')
    assert io.session.view[1].tool_calls[0].arguments == '{"n":1}'


def test_what_tool_before_rewrote_is_what_runs_again_after_a_crash() -> None:
    """Under the same key the same thing, not what the model had asked for first."""
    safe = ToolTraits(idempotent=True)
    hooks: Handlers = {TOOL_BEFORE: lambda c: replace(c, name="put", arguments='{"safe":1}')}
    kit = {"put": FakeTool(die, "put", traits=safe), "read": FakeTool("raw")}
    io = FakePorts([calls(call("c1", "read", '{"raw":1}'))], kit, hooks)
    with pytest.raises(Killed):
        send(io)
    again = FakePorts([text("ok")], kit, hooks, log=io.log[: io.durable], prefix="j")
    assert succeed(again) == Completed("ok")
    assert again.effects == [("c1", "put", '{"safe":1}')]
    keys = {record.idempotency_key for record in again.of(ToolStarted)}
    assert keys == {"s/c1"}
    assert [record.attempt for record in again.of(ToolStarted)] == [1, 2]


def test_whether_a_call_in_doubt_may_run_again_is_asked_of_the_tool_that_ran() -> None:
    """A harmless tool that a hook had turned into a harmful one is not run again."""
    hooks: Handlers = {TOOL_BEFORE: lambda c: replace(c, name="pay")}
    kit = {"read": FakeTool(traits=ToolTraits(idempotent=True)), "pay": FakeTool(die)}
    io = FakePorts([calls(call("c1"))], kit, hooks)
    with pytest.raises(Killed):
        send(io)
    again = FakePorts([text("ok")], kit, hooks, log=io.log[: io.durable], prefix="j")
    assert succeed(again) == Completed("ok")
    assert again.effects == []
    assert how(again) == {"c1": "unknown"}


@pytest.mark.parametrize("arguments", ['{"cut', "[1]", "null", '{"a": NaN}', "\x00"])
def test_arguments_that_a_hook_made_invalid_are_never_run(arguments: str) -> None:
    """The hook is told, not the model: it was not the model's mistake."""
    hooks: Handlers = {TOOL_BEFORE: lambda c: replace(c, arguments=arguments)}
    io = FakePorts([TWO], tools(), hooks)
    outcome = run(io)
    assert isinstance(outcome, Failed)
    assert outcome.error_type == HookError.__name__
    assert "tool.before" in outcome.message
    assert io.effects == []
    assert violations(io.log, closed=True) == []


def test_a_tool_that_a_hook_renamed_to_nothing_known_is_not_run() -> None:
    """The model is told that there is no such tool."""
    hooks: Handlers = {TOOL_BEFORE: lambda c: replace(c, name="nobody")}
    io = FakePorts([calls(call("c1")), text("ok")], tools(), hooks)
    assert send(io) == Completed("ok")
    assert "no tool 'nobody'" in io.results()["c1"]
    assert how(io) == {"c1": "not_run"}


# ── tool.error ────────────────────────────────────────────────────────────────────────────────────


def test_without_a_directive_the_model_is_told_what_the_tool_raised() -> None:
    """And the hook is told the very exception."""
    error = broken("no such file")
    io = FakePorts([TWO, text("ok")], tools() | {"read": FakeTool(error)})
    io.hooks = {TOOL_ERROR.name: lambda _: None}
    assert send(io) == Completed("ok")
    assert io.results()["c1"] == "no such file"
    (context,) = contexts(io, ToolErrorRaised)
    assert context.error is error
    assert (context.call.id, context.name, context.arguments) == ("c1", "read", '{"n":1}')


def test_tool_error_skip_gives_the_model_its_output_instead() -> None:
    """As a result, not as an error."""
    io = FakePorts([TWO, text("ok")], tools() | {"read": FakeTool(broken())})
    io.hooks = {TOOL_ERROR.name: lambda _: Skip("use the cache")}
    send(io)
    assert io.results()["c1"] == "use the cache"
    assert how(io)["c1"] == "finished"


def test_tool_error_retry_runs_the_call_again_once() -> None:
    """Under the next attempt number and the same key."""
    io = FakePorts([TWO, text("ok")], tools() | {"read": FakeTool(broken(), "second")})
    io.hooks = {TOOL_ERROR.name: lambda _: Retry()}
    send(io)
    assert io.results()["c1"] == "second"
    mine = [record for record in io.of(ToolStarted) if record.call_id == "c1"]
    assert [record.attempt for record in mine] == [1, 2]
    assert len({(r.idempotency_key, r.arguments, r.args_hash) for r in mine}) == 1


def test_a_tool_that_fails_again_is_not_retried_again() -> None:
    """The model is told; tool.error has had its say."""
    io = FakePorts([TWO, text("ok")], tools() | {"read": FakeTool(ToolError("1"), ToolError("2"))})
    io.hooks = {TOOL_ERROR.name: lambda _: Retry()}
    assert send(io) == Completed("ok")
    assert io.results()["c1"] == "2"
    assert io.names() == ["tool.error"]


# ── tool.after ────────────────────────────────────────────────────────────────────────────────────


def test_what_tool_after_makes_of_a_result_is_what_the_model_reads() -> None:
    """It sees what ran, and what tool.error made of a failure."""
    hooks: Handlers = {
        TOOL_ERROR: lambda _: Skip("fallback"),
        TOOL_AFTER: lambda c: replace(
            c, result=ToolResult(c.call.id, (Text(f"<{c.result.text}>"),))
        ),
    }
    io = FakePorts([TWO, text("ok")], tools() | {"list": FakeTool(broken())}, hooks)
    send(io)
    assert io.results() == {"c1": "<contents>", "c2": "<fallback>"}
    assert [(c.name, c.arguments) for c in contexts(io, ToolAfter)] == [
        ("read", '{"n":1}'),
        ("list", "{}"),
    ]


def test_tool_after_does_not_fire_for_what_has_not_run() -> None:
    """Skipped and refused calls have no "after"."""
    hooks: Handlers = {TOOL_BEFORE: lambda _: Skip(), TOOL_AFTER: lambda _: Break()}
    io = FakePorts([calls(call("c1"), call("c2", arguments="[")), text("ok")], tools(), hooks)
    assert send(io) == Completed("ok")


def test_tool_after_break_cancels_the_siblings_and_settles_them_truthfully() -> None:
    """One has finished, one is running, one never began; none is left open."""
    wanted = calls(*[call(f"c{n}", name) for n, name in enumerate(("a", "b", "c", "stop"))])
    kit = {name: FakeTool(f"{name} done") for name in ("a", "b", "c", "stop")}
    hooks: Handlers = {
        TOOL_BEFORE: lambda _: None,
        TOOL_AFTER: lambda c: Break("seen enough") if c.name == "stop" else None,
    }
    seen: set[str] = set()
    for schedule in SCHEDULES:
        order = iter(schedule)
        # The one that breaks off runs to its end, as soon as the others are where they should be.
        io = FakePorts([wanted], kit, hooks, choose=lambda n, o=order: min(next(o, n - 1), n - 1))
        assert send(io) == Stopped("seen enough")
        begun = {record.call_id for record in io.of(ToolStarted)}
        settled = how(io)
        assert set(settled) == {"c0", "c1", "c2", "c3"}
        assert settled["c3"] == "finished"
        for id, said in settled.items():
            assert said in (("finished", "interrupted") if id in begun else ("not_run",))
        assert violations(io.log, closed=True) == []
        seen |= set(settled.values())
    assert seen == {"finished", "interrupted", "not_run"}


SCHEDULES = (
    (0, 0, 0, 0, 0, 0, 0, 0, 0),
    (0, 1, 2, 0, 1, 0, 0, 1, 0, 1, 0),
    (0, 0, 0, 1, 1, 1, 1, 2, 2),
    (1, 1, 1, 1, 1, 0, 0, 0, 0, 0),
    (),
)


def test_a_sibling_whose_tool_had_returned_is_told_as_finished() -> None:
    """Its result existed; only its settlement did not."""
    kit = {"read": FakeTool("contents"), "list": FakeTool("names")}
    hooks: Handlers = {
        TOOL_AFTER: lambda c: Break("enough") if c.name == "list" else None,
    }
    io = FakePorts([TWO], kit, hooks)
    # The first goes on until its tool has returned, and no further.
    io.choose = lambda n: n - 1 if "c1" in io.finished() else 0
    assert send(io) == Stopped("enough")
    assert how(io) == {"c1": "finished", "c2": "finished"}
    assert io.results() == {"c1": "contents", "c2": "names"}
    assert [r.message.id for r in io.of(ToolSettled)] == ["c2.result", "c1.result"]


def test_a_retried_call_that_is_cut_short_is_not_told_as_finished() -> None:
    """What its first attempt gave is not what the second would have given."""
    kit = {"read": FakeTool(broken("first"), "second"), "list": FakeTool("names")}
    hooks: Handlers = {
        TOOL_ERROR: lambda _: Retry(),
        TOOL_AFTER: lambda c: Break("enough") if c.name == "list" else None,
    }
    io = FakePorts([TWO], kit, hooks)
    # Until its second attempt has begun, and no further.
    io.choose = lambda n: n - 1 if len(io.effects) > 1 else 0
    assert send(io) == Stopped("enough")
    assert [effect[0] for effect in io.effects] == ["c1", "c1", "c2"]
    assert how(io) == {"c1": "interrupted", "c2": "finished"}


def test_tool_after_break_gives_up_what_waits_for_approval() -> None:
    """Nobody is asked about a call that will not be run."""
    hooks: Handlers = {
        TOOL_BEFORE: lambda c: Suspend() if c.name == "read" else None,
        TOOL_AFTER: lambda _: Break("enough"),
    }
    io = FakePorts([TWO], tools(), hooks)
    assert send(io) == Stopped("enough")
    assert how(io) == {"c1": "not_run", "c2": "finished"}
    assert violations(io.log, closed=True) == []
