# ruff: noqa: E501 - a step is one line, however long

"""Why a run ended as it did: a golden explanation for every outcome, each of a real run.

Regenerate them with --inline-snapshot=fix, and read the difference.
"""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from inline_snapshot import snapshot

from tests.agent.support import EVERY_STORE, StoreKind, opened_store
from tests.history.endings import ENDINGS, normal

pytestmark = pytest.mark.anyio

GOLDEN: dict[str, str] = {
    "completed": snapshot("""\
# completed: run ID1 of session ID2

**Why:** the model answered, and nobody objected

**What to do:** send the next message

| limit | allowed | used | left | |
|---|--:|--:|--:|---|
| rounds | 24 | 1 | 23 |  |

How it came to that, since WHEN:

- +T s  run ID1 opened with 1 message; limits: rounds 24
- +T s  model scripted failed after T s: ServerError: 503 (status 503)
- +T s  model scripted is asked again, T s later
- +T s  model scripted answered after T s, 10 tokens in, 5 out
- +T s  run ID1 ended completed, T s after it had opened\
"""),
    "goal_reached": snapshot("""\
# goal_reached: run ID1 of session ID2

**Why:** hook round.start goal: break: nothing is open (the goal is reached)

**What to do:** send the next message

| limit | allowed | used | left | |
|---|--:|--:|--:|---|
| rounds | 24 | 1 | 23 |  |

How it came to that, since WHEN:

- +T s  run ID1 opened with 1 message; limits: rounds 24
- +T s  a user message was added by a hook or the loop: The goal is not reached yet: measured 1.
- +T s  model scripted answered after T s, 10 tokens in, 5 out
- +T s  hook round.start goal: break: goal_reached(reason='nothing is open')
- +T s  run ID1 ended goal_reached, T s after it had opened\
"""),
    "stopped": snapshot("""\
# stopped: run ID1 of session ID2

**Why:** hook tool.before guard: break: not on Sundays

**What to do:** resume the session, or send the next message

| limit | allowed | used | left | |
|---|--:|--:|--:|---|
| rounds | 24 | 1 | 23 |  |

How it came to that, since WHEN:

- +T s  run ID1 opened with 1 message; limits: rounds 24
- +T s  model scripted answered after T s, 10 tokens in, 5 out
- +T s  hook tool.before guard: break: not on Sundays
- +T s  tool pay was not run: This call was stopped before it had begun. It had no effect.
- +T s  run ID1 ended stopped, T s after it had opened\
"""),
    "round_limit": snapshot("""\
# round_limit: run ID1 of session ID2

**Why:** limit rounds: 1 of 1 used; the model has said where things stand

**What to do:** resume the session to grant it another set of rounds

| limit | allowed | used | left | |
|---|--:|--:|--:|---|
| rounds | 1 | 1 | 0 |  |

How it came to that, since WHEN:

- +T s  run ID1 opened with 1 message; limits: rounds 1
- +T s  model scripted answered after T s, 10 tokens in, 5 out
- +T s  a user message was added by a hook or the loop: You have used all the rounds of this task. Do not call any more tools. Say brie…
- +T s  model scripted answered after T s, 10 tokens in, 5 out
- +T s  run ID1 ended round_limit, T s after it had opened\
"""),
    "budget_exhausted": snapshot("""\
# budget_exhausted: run ID1 of session ID2

**Why:** limit run.tool_calls: 1 allowed, 1 used; the next step needs 1

**What to do:** resume the session with extend=Budget(tool_calls=…)

| limit | allowed | used | left | |
|---|--:|--:|--:|---|
| rounds | 24 | 2 | 22 |  |
| run.tokens | 20,000 | 30 | 19,970 |  |
| run.tool_calls | 1 | 1 | 0 |  |

How it came to that, since WHEN:

- +T s  run ID1 opened with 1 message; limits: rounds 24, run.tokens 20,000, run.tool_calls 1
- +T s  model scripted answered after T s, 10 tokens in, 5 out
- +T s  model scripted answered after T s, 10 tokens in, 5 out
- +T s  budget (run.tool_calls): refused: 1 allowed, 1 used; the next step needs 1
- +T s  tool look was not run: This call was stopped before it had begun. It had no effect. The budget run.tool_calls is used up.
- +T s  run ID1 ended budget_exhausted, T s after it had opened\
"""),
    "no_progress": snapshot("""\
# no_progress: run ID1 of session ID2

**Why:** policy:no_progress at round.start: break: 2 rounds in a row have brought nothing new (no progress was seen)

**What to do:** send a message that says what to do differently

| limit | allowed | used | left | |
|---|--:|--:|--:|---|
| rounds | 24 | 3 | 21 |  |

How it came to that, since WHEN:

- +T s  run ID1 opened with 1 message; limits: rounds 24
- +T s  model scripted answered after T s, 10 tokens in, 5 out
- +T s  model scripted answered after T s, 10 tokens in, 5 out
- +T s  model scripted answered after T s, 10 tokens in, 5 out
- +T s  policy:no_progress at round.start: break: no_progress(reason='2 rounds in a row have brought nothing new')
- +T s  run ID1 ended no_progress, T s after it had opened\
"""),
    "plan_failed": snapshot("""\
# plan_failed: run ID1 of session ID2

**Why:** hook round.start valid_plans:round: break: 6 plans in a row could not be carried out; the last one: {"error":"plan_invalid","attempt":3,"attempts":3,"problems":[{"call":"c5","tool":"look","path":"place","expected":"a value, it is required","got":"nothing"},{"call":"c5","tool":"look","path":"where","expected":"no such argument; there are: pl… (no valid plan was made)

**What to do:** send a message that says what to do differently

| limit | allowed | used | left | |
|---|--:|--:|--:|---|
| rounds | 24 | 6 | 18 |  |

How it came to that, since WHEN:

- +T s  run ID1 opened with 1 message; limits: rounds 24
- +T s  model scripted answered after T s, 10 tokens in, 5 out
- +T s  hook round.decide valid_plans: skip: {"error":"plan_invalid","attempt":1,"attempts":3,"problems":[{"call":"c0","tool":"look","path":"place","expected":"a value, it is required","got":"nothing"},{"…
- +T s  tool look was not run: something else answered in its place
- +T s  model scripted answered after T s, 10 tokens in, 5 out
- +T s  hook round.decide valid_plans: skip: {"error":"plan_invalid","attempt":2,"attempts":3,"problems":[{"call":"c1","tool":"look","path":"place","expected":"a value, it is required","got":"nothing"},{"…
- +T s  tool look was not run: something else answered in its place
- +T s  model scripted answered after T s, 10 tokens in, 5 out
- +T s  hook round.decide valid_plans: skip: {"error":"plan_invalid","attempt":3,"attempts":3,"problems":[{"call":"c2","tool":"look","path":"place","expected":"a value, it is required","got":"nothing"},{"…
- +T s  tool look was not run: something else answered in its place
- +T s  model scripted answered after T s, 10 tokens in, 5 out
- +T s  hook round.decide valid_plans: skip: {"error":"plan_invalid","attempt":1,"attempts":3,"problems":[{"call":"c3","tool":"look","path":"place","expected":"a value, it is required","got":"nothing"},{"…
- +T s  tool look was not run: something else answered in its place
- +T s  model scripted answered after T s, 10 tokens in, 5 out
- +T s  hook round.decide valid_plans: skip: {"error":"plan_invalid","attempt":2,"attempts":3,"problems":[{"call":"c4","tool":"look","path":"place","expected":"a value, it is required","got":"nothing"},{"…
- +T s  tool look was not run: something else answered in its place
- +T s  model scripted answered after T s, 10 tokens in, 5 out
- +T s  hook round.decide valid_plans: skip: {"error":"plan_invalid","attempt":3,"attempts":3,"problems":[{"call":"c5","tool":"look","path":"place","expected":"a value, it is required","got":"nothing"},{"…
- +T s  tool look was not run: something else answered in its place
- +T s  hook round.start valid_plans:round: break: plan_failed(reason='6 plans in a row could not be carried out; the last one: {"error":"plan_invalid","attempt":3,"attempts":3,"problems":[{"call":"c5","tool":"…
- +T s  run ID1 ended plan_failed, T s after it had opened\
"""),
    "awaiting_approval": snapshot("""\
# awaiting_approval: run ID1 of session ID2

**Why:** approval ID3 of tool pay waits since WHEN, asked for by policy:require_approval: it costs

**What to do:** resume the session with answers=[…] of approve(token) or deny(token)

| limit | allowed | used | left | |
|---|--:|--:|--:|---|
| rounds | 24 | 1 | 23 |  |

How it came to that, since WHEN:

- +T s  run ID1 opened with 1 message; limits: rounds 24
- +T s  model scripted answered after T s, 10 tokens in, 5 out
- +T s  policy:require_approval at tool.before: suspend: it costs
- +T s  approval ID3 of tool pay is asked for by policy:require_approval: it costs
- +T s  run ID1 ended awaiting_approval, T s after it had opened\
"""),
    "approval_denied": snapshot("""\
# approval_denied: run ID1 of session ID2

**Why:** approval ID3 of tool pay was denied by ada: too dear

**What to do:** send a message that says what to do instead

| limit | allowed | used | left | |
|---|--:|--:|--:|---|
| rounds | 24 | 1 | 23 |  |

How it came to that, since WHEN:

- +T s  run ID4 opened with 1 message; limits: rounds 24
- +T s  model scripted answered after T s, 10 tokens in, 5 out
- +T s  policy:require_approval at tool.before: suspend: it costs
- +T s  approval ID3 of tool pay is asked for by policy:require_approval: it costs
- +T s  run ID4 ended awaiting_approval, T s after it had opened
- +T s  run ID1 carries ID4 on; limits: rounds 24
- +T s  approval ID3 was denied by ada: too dear
- +T s  tool pay was not run: a person did not allow it
- +T s  run ID1 ended approval_denied, T s after it had opened\
"""),
    "approval_expired": snapshot("""\
# approval_expired: run ID1 of session ID2

**Why:** approval ID3 of tool pay was answered too late: it had expired at WHEN

**What to do:** resume the session to ask again

| limit | allowed | used | left | |
|---|--:|--:|--:|---|
| rounds | 24 | 1 | 23 |  |

How it came to that, since WHEN:

- +T s  run ID4 opened with 1 message; limits: rounds 24
- +T s  model scripted answered after T s, 10 tokens in, 5 out
- +T s  policy:require_approval at tool.before: suspend: it costs
- +T s  approval ID3 of tool pay is asked for by policy:require_approval: it costs; until WHEN
- +T s  run ID4 ended awaiting_approval, T s after it had opened
- +T s  run ID1 carries ID4 on; limits: rounds 24
- +T s  approval ID3 expired
- +T s  approval (policy:require_approval): refused: 'ID3' was answered too late
- +T s  run ID1 ended approval_expired, T s after it had opened\
"""),
    "waiting_for_input": snapshot("""\
# waiting_for_input: run ID1 of session ID2

**Why:** question ID3 of tool pay waits since WHEN, asked for by teller: From which account?

**What to do:** resume the session with answers=[answer(token, …)]

| limit | allowed | used | left | |
|---|--:|--:|--:|---|
| rounds | 24 | 1 | 23 |  |

How it came to that, since WHEN:

- +T s  run ID1 opened with 1 message; limits: rounds 24
- +T s  model scripted answered after T s, 10 tokens in, 5 out
- +T s  hook tool.before teller: request_input: From which account?
- +T s  question ID3 is asked by teller for tool pay: From which account?
- +T s  run ID1 ended waiting_for_input, T s after it had opened\
"""),
    "pending_tools": snapshot("""\
# pending_tools: run ID1 of session ID2

**Why:** tool remote is not run here: its result is to come from the program

**What to do:** resume with decisions about the open calls, or abort_pending

| limit | allowed | used | left | |
|---|--:|--:|--:|---|
| rounds | 24 | 1 | 23 |  |

How it came to that, since WHEN:

- +T s  run ID1 opened with 1 message; limits: rounds 24
- +T s  model scripted answered after T s, 10 tokens in, 5 out
- +T s  run ID1 ended pending_tools, T s after it had opened\
"""),
    "cancelled": snapshot("""\
# cancelled: run ID1 of session ID2

**Why:** cancelled: enough

**What to do:** resume the session, or send the next message

| limit | allowed | used | left | |
|---|--:|--:|--:|---|
| rounds | 24 | 1 | 23 |  |

How it came to that, since WHEN:

- +T s  run ID1 opened with 1 message; limits: rounds 24
- +T s  model scripted answered after T s, 10 tokens in, 5 out
- +T s  tool wait was stopped before it had finished
- +T s  run ID1 ended cancelled, T s after it had opened\
"""),
    "degraded": snapshot("""\
# degraded: run ID1 of session ID2

**Why:** the provider failed 3 times, the last time with ServerError: try later (status 503); the retry policy gave up

**What to do:** resume the session when the provider is back

| limit | allowed | used | left | |
|---|--:|--:|--:|---|
| rounds | 24 | 1 | 23 |  |

How it came to that, since WHEN:

- +T s  run ID1 opened with 1 message; limits: rounds 24
- +T s  model scripted failed after T s: ServerError: try later (status 503)
- +T s  model scripted is asked again, T s later
- +T s  model scripted failed after T s: ServerError: try later (status 503)
- +T s  model scripted is asked again, T s later
- +T s  model scripted failed after T s: ServerError: try later (status 503)
- +T s  run ID1 ended degraded, T s after it had opened\
"""),
    "failed": snapshot("""\
# failed: run ID1 of session ID2

**Why:** the model call failed for a reason that no retry mends: BadRequest: no such parameter (status 400)

**What to do:** mend the cause, then resume the session

| limit | allowed | used | left | |
|---|--:|--:|--:|---|
| rounds | 24 | 1 | 23 |  |

How it came to that, since WHEN:

- +T s  run ID1 opened with 1 message; limits: rounds 24
- +T s  model scripted failed after T s: BadRequest: no such parameter (status 400)
- +T s  run ID1 ended failed, T s after it had opened\
"""),
    "crashed": snapshot("""\
# crashed: run r1 of session s

**Why:** the process died while tool pay was running: its outcome is unknown

**What to do:** nothing: run ID1 carried it on

How it came to that:

- +T s  run r1 opened with 1 message
- +T s  model m answered after T s, ? tokens in, ? out
- +T s  run r1 ended crashed, T s after it had opened, while tool pay was running: its outcome is unknown\
"""),
}


def run_of(status: str) -> str | None:
    """The run that a scenario is about: a crash is followed by a run that carries on."""
    return "r1" if status == "crashed" else None


@pytest.mark.parametrize("kind", EVERY_STORE)
@pytest.mark.parametrize("status", [*ENDINGS])
async def test_every_outcome_has_its_explanation(
    status: str, kind: StoreKind, tmp_path: Path
) -> None:
    """The rule, what to do, what was left, and how it came to that."""
    async with opened_store(kind, tmp_path) as store:
        with anyio.fail_after(20):
            loop, session = await ENDINGS[status](store)
            told = await loop.explain(session, run_of(status))
    assert told.status == status
    assert normal(str(told)) == GOLDEN[status]
