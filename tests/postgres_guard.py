"""Runs a PostgreSQL server for whoever started this program, and ends it with them.

    python postgres_guard.py BINARIES DIRECTORY PORT [SETTING=VALUE …]

It makes the database in DIRECTORY, says `ready`, and obeys the lines `stop`, `kill` and `start`,
each answered by `done`. When its input ends, as it does when the other process dies in whatever
way, the server is stopped and DIRECTORY is deleted. Should this program be killed itself, the
kernel stops the server.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

SUPERUSER = "postgres"
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
WAIT_SECONDS = 30


class Guard:
    """The server, and how it is started and stopped."""

    def __init__(self, binaries: Path, directory: Path, port: int, settings: list[str]) -> None:
        # The server refuses to run as root.
        self.account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self.directory = directory
        self.binaries = self._reachable(binaries)
        self.port = port
        self.settings = settings
        self.server: subprocess.Popen[Any] | None = None

    def _reachable(self, binaries: Path) -> Path:
        """The binaries, where the server's account can read them."""
        if self.account is None or all(p.stat().st_mode & 0o005 == 0o005 for p in binaries.parents):
            return binaries
        copy = self.directory / "package"
        package = binaries.parent.parent
        shutil.copytree(package, copy / package.name)
        shutil.copytree(package.with_name(f"{package.name}.libs"), copy / f"{package.name}.libs")
        return copy / package.name / "pginstall" / "bin"

    def make(self) -> None:
        """Makes the database."""
        data = self.directory / "data"
        data.mkdir()
        if self.account is not None:
            os.chown(data, self.account.pw_uid, self.account.pw_gid)
            os.chown(self.directory, self.account.pw_uid, self.account.pw_gid)
        made = subprocess.run(
            [
                self.binaries / "initdb",
                *("-D", data, "-U", SUPERUSER, "--auth-local=trust", "--auth-host=scram-sha-256"),
                *("--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"),
            ],
            **self._as_account(),
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            sys.exit(f"initdb failed: {made.stderr}")

    def start(self) -> None:
        """Starts the server and waits until it takes connections."""
        with (self.directory / "server.log").open("ab") as log:
            server = self.server = subprocess.Popen(
                [
                    self.binaries / "postgres",
                    *("-D", self.directory / "data", "-k", self.directory, "-p", str(self.port)),
                    *("-c", "listen_addresses=127.0.0.1"),
                    *[part for setting in self.settings for part in ("-c", setting)],
                ],
                **self._as_account(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        until = time.monotonic() + WAIT_SECONDS
        ready = [
            self.binaries / "pg_isready",
            "-q",
            "-U",
            SUPERUSER,
            "-h",
            self.directory,
            "-p",
            str(self.port),
        ]
        while subprocess.call(ready, **self._as_account()):
            if server.poll() is not None or time.monotonic() > until:
                sys.exit((self.directory / "server.log").read_text())
            time.sleep(0.01)

    def stop(self, how: signal.Signals) -> None:
        """Stops the server: SIGINT orderly, SIGQUIT at once, SIGKILL as a crash would."""
        if self.server is None:
            return
        self.server.send_signal(how)
        self.server.wait(WAIT_SECONDS)
        if how == signal.SIGKILL:
            self._wait_for_orphans()
        self.server = None

    def _wait_for_orphans(self) -> None:
        """Its children are ours now, and notice its death; it can be started without them only."""
        with suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)

    def _as_account(self) -> dict[str, Any]:
        environment = {"PATH": "/usr/bin:/bin", "TZ": "UTC", "LC_ALL": "C"}
        options: dict[str, Any] = {"cwd": "/", "env": environment}
        if self.account is not None:
            options |= {
                "user": self.account.pw_uid,
                "group": self.account.pw_gid,
                "extra_groups": [],
            }
        return options


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)


def _adopt_orphans() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def main() -> None:
    """Serves until the input ends."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)  # the end of the input says it, to all at once
    _adopt_orphans()
    binaries, directory = Path(sys.argv[1]), Path(sys.argv[2])
    guard = Guard(binaries, directory, int(sys.argv[3]), sys.argv[4:])
    try:
        guard.make()
        guard.start()
        print("ready", flush=True)
        for line in sys.stdin:
            match line.strip():
                case "stop":
                    guard.stop(signal.SIGINT)
                case "kill":
                    guard.stop(signal.SIGKILL)
                case _:
                    guard.start()
            print("done", flush=True)
    finally:
        guard.stop(signal.SIGQUIT)
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
