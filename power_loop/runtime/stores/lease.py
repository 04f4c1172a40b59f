"""Who holds a lease, and whether that process still lives.

On Linux a process is known by the boot id of its host, its process-id namespace, its id and its
start time, so that neither a reboot nor a container nor a reused process id can be mistaken for the
owner. Where there is no /proc, host name and process id have to do: a process that is gone is
noticed, a reused id is not, and such a lease ends by expiry. On Windows, and for owners on another
host or in another container, only expiry counts.

Expiry is measured on the clock that runs since boot where both sides share it, and on the wall
clock otherwise. Only *when* a lease may be taken over depends on a clock. That a former owner can
write nothing more does not: it is refused by its fence.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path

from msgspec import Struct

__all__ = ["Moment", "Owner", "has_died", "has_expired", "this_process"]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_STATE, _START_TIME = 0, 19
"""Places in /proc/PID/stat, counted after the command's name."""


class Owner(Struct, frozen=True, omit_defaults=True):
    """A process, as others can recognise it. What is unknown is empty."""

    pid: int
    host: str = ""
    boot: str = ""
    pids: str = ""
    """The process-id namespace."""
    started: str = ""
    """Clock ticks between boot and the start of the process."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host or 'an unknown host'}"


class Moment(Struct, frozen=True):
    """Now, in seconds since the epoch and in seconds since this host's boot."""

    wall: float
    uptime: float

    @classmethod
    def now(cls) -> Moment:
        """Reads both clocks."""
        return cls(time.time(), time.monotonic())

    def later(self, seconds: float) -> Moment:
        """The moment `seconds` from this one."""
        return Moment(self.wall + seconds, self.uptime + seconds)


def this_process() -> Owner:
    """The calling process."""
    pid = os.getpid()
    try:
        boot = _BOOT_ID.read_text("ascii").strip()
        pids = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        boot = pids = ""
    return Owner(pid, platform.node(), boot, pids, _started(pid) or "")


def has_died(owner: Owner, me: Owner) -> bool:
    """Whether `owner` certainly runs no more, as far as the process `me` can know."""
    if owner.boot or me.boot:
        if (owner.boot, owner.pids) != (me.boot, me.pids):
            return False
    elif owner.host != me.host:
        return False
    if owner.started and me.boot:
        started = _started(owner.pid)
        if started is not None:
            return started != owner.started
    return not _exists(owner.pid)


def has_expired(expires: Moment, now: Moment, owner: Owner, me: Owner) -> bool:
    """Whether a lease of `owner` that runs until `expires` is over."""
    if owner.boot and owner.boot == me.boot:
        return now.uptime >= expires.uptime
    return now.wall >= expires.wall


def _started(pid: int) -> str | None:
    """The start time of a process; empty for a zombie; None if it cannot be seen."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    if fields[_STATE] in b"ZX":
        return ""
    return fields[_START_TIME].decode()


def _exists(pid: int) -> bool:
    """Whether a process id is in use; True where that cannot be found out."""
    if sys.platform == "win32":  # os.kill would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it exists and is another user's
        return True
    return True
