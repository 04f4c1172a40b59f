"""Explanations of logs that another version of this package has gone on with."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from zlib import crc32

import pytest

from power_loop import MemoryStore, SQLiteStore
from power_loop.errors import SessionError
from power_loop.history.explaining import Log, explanation_of
from power_loop.session.records import ModelAsked, RunOpened
from tests.agent.stores import records_of
from tests.history.endings import ENDINGS
from tests.history.loops import loop_on, talk
from tests.history.support import stamped_log

pytestmark = pytest.mark.anyio


async def test_a_log_that_another_version_has_gone_on_with_is_explained_as_far_as_it_goes() -> None:
    """A record that is not legal here, and one that cannot even be read."""
    store = MemoryStore()
    session = await talk(store)
    log = records_of(await store.read(session))
    asked = next(n for n, r in enumerate(log, 1) if isinstance(r, ModelAsked))
    wrong = stamped_log([*log[:asked], *log[asked - 1 :]])
    told = explanation_of("s", Log(wrong), next(r.run for r in log if isinstance(r, RunOpened)))
    assert told.rule.startswith(f"the log goes on after record {asked}, but cannot be read; up to ")
    assert told.rule.endswith("model scripted was being asked")
    assert "was written by another version" in told.unread
    assert told.recommended_action == "upgrade power_loop, and have it explained again"
    assert "**Not read:** record " in str(told)
    with pytest.raises(SessionError, match="no run of session 's' can be read"):
        explanation_of("s", Log(stamped_log([log[-1], *log])))
    short = explanation_of("s", Log(stamped_log(log[:asked]), "record 9 is of a newer kind"))
    assert short.unread == "record 9 is of a newer kind"
    with pytest.raises(SessionError, match="no run to explain: newer"):
        explanation_of("s", Log((), "newer"))


def written(path: Path, place: int, body: bytes) -> None:
    """Puts another record in a place of the only session, as intact as the one before."""
    with closing(sqlite3.connect(path)) as connection, connection:
        found = connection.execute(
            "SELECT place, tree_seq, at, round, run FROM records ORDER BY place LIMIT 1 OFFSET ?",
            (place - 1,),
        )
        number, tree_seq, at, round, run = found.fetchone()
        fixed = struct.pack("<qqdq", number, tree_seq, at, round)
        crc = crc32(body, crc32(fixed + run.encode()))
        connection.execute(
            "UPDATE records SET body = ?, crc = ? WHERE place = ?", (body, crc, number)
        )


@pytest.mark.parametrize("place", [1, 2, 5, 8])
async def test_what_a_newer_version_has_written_is_not_read_but_all_before_it(
    place: int, tmp_path: Path
) -> None:
    """A record of an unknown kind ends what can be said, and the explanation says where."""
    path = tmp_path / "sessions.db"
    async with SQLiteStore(path) as store:
        loop, session = await ENDINGS["stopped"](store)
        whole = await loop.explain(session)
    written(path, place, b'{"type":"from_the_future"}')
    async with SQLiteStore(path) as store, loop_on(store) as loop:
        assert (await store.info(session)).seq == 8
        if place == 1:
            with pytest.raises(SessionError, match=r"no run to explain: .*Upgrade"):
                await loop.explain(session)
            return
        told = await loop.explain(session)
    assert f"record {place} of session" in told.unread
    assert told.rule.startswith(f"the log goes on after record {place - 1}, but cannot be read")
    assert told.steps == tuple([step for step in whole.steps if step.seq < place])
    assert told.recommended_action == "upgrade power_loop, and have it explained again"
