"""The verbs that go back, for programs without an event loop."""

from __future__ import annotations

from llm_client.testing import reply
from tests.history.loops import loop_on


def test_a_session_is_forked_rewound_compared_and_explained_without_an_event_loop() -> None:
    """As by the asynchronous verbs."""
    with loop_on(None, reply("4"), reply("5")).sync() as s:
        session = s.send("2+2?").session_id
        question, answer = s.get_messages(session)
        fork = s.fork(session, overrides={answer.id: "four"}, metadata={"a": "b"})
        found = s.diff(session, fork)
        s.rewind(session, at=1)
        done = s.resume(session)
        again = s.replay(session)
        told = s.explain(session)
        former = s.explain(fork, run=s.usage(fork).runs[0].run)
    assert found.at is not None
    assert found.at.second == "four"
    assert question.text == "2+2?"
    assert done.final_text == "5"
    assert again.identical
    assert (told.run_id, told.status) == (done.run_id, "completed")
    assert former.session_id == fork
