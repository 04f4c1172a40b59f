"""Who is dead: only what is certain counts, everything else waits for expiry."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from time import monotonic

import pytest
from msgspec.structs import replace

from power_loop.runtime.stores.lease import Moment, Owner, has_died, has_expired, this_process

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

ME = Owner(1, "here", "boot-1", "pid:[1]", "500")


@on_linux
def test_this_process_lives_and_is_known_by_its_start() -> None:
    """Everything Linux tells is in the owner, and a process is not dead to itself."""
    me = this_process()
    assert me.boot
    assert me.pids
    assert me.started
    assert not has_died(me, me)
    assert str(me.pid) in str(me)


@on_linux
def test_a_reused_process_id_is_not_the_owner() -> None:
    """The same id with another start time is another process."""
    me = this_process()
    assert has_died(replace(me, started="1"), me)


@on_linux
def test_a_process_is_dead_once_it_has_ended() -> None:
    """Alive while it runs; dead as a zombie and when it is gone."""
    me = this_process()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = replace(me, pid=child.pid, started=_start_of(child.pid))
    assert not has_died(owner, me)
    child.communicate(b"\n", timeout=30)
    assert has_died(owner, me)


@on_linux
def test_a_killed_process_is_dead_before_its_parent_has_noticed() -> None:
    """A zombie still has its process id."""
    me = this_process()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = replace(me, pid=child.pid, started=_start_of(child.pid))
    child.kill()
    give_up = monotonic() + 20
    while not has_died(owner, me):
        assert monotonic() < give_up, "a zombie counts as alive"
    assert child.returncode is None, "it has not been waited for"
    child.communicate()


@pytest.mark.parametrize(
    "owner",
    [
        replace(ME, boot="boot-2"),
        replace(ME, pids="pid:[2]"),
        replace(ME, boot=""),
        replace(ME, pid=999_999_999, boot="boot-2"),
    ],
)
def test_of_another_host_boot_or_container_nothing_is_certain(owner: Owner) -> None:
    """Whoever cannot be seen from here is not called dead, even if no process has that id."""
    assert not has_died(owner, ME)


@pytest.mark.skipif(sys.platform == "win32", reason="no way to ask without ending the process")
def test_without_proc_a_process_that_is_gone_is_dead() -> None:
    """Host name and process id have to do; another host's are unknown."""
    here = Owner(1, "here")
    assert has_died(Owner(999_999_999, "here"), here)
    assert not has_died(Owner(this_process().pid, "here"), here)
    assert not has_died(Owner(999_999_999, "there"), here)


def test_expiry_counts_on_the_clock_that_both_sides_share() -> None:
    """Since boot on one host, so that setting a clock steals nothing; else the wall clock."""
    expires = Moment(wall=100.0, uptime=50.0)
    assert not has_expired(expires, Moment(999.0, 49.9), ME, ME)
    assert has_expired(expires, Moment(0.0, 50.0), ME, ME)
    elsewhere = replace(ME, boot="boot-2")
    assert has_expired(expires, Moment(100.0, 0.0), elsewhere, ME)
    assert not has_expired(expires, Moment(99.9, 999.0), elsewhere, ME)
    nowhere = replace(ME, boot="")
    assert has_expired(expires, Moment(100.0, 0.0), nowhere, nowhere)


def _start_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[19]
