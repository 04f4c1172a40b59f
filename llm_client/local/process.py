"""The server's process as its parent sees it.

A process of its own rather than a library call: loading holds the interpreter for half a second, a
crash of the engine takes its process with it, and standard input is a leash that a killed parent
lets go of as well. Starts in about 0.6 s.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, cast

import anyio
from anyio import CapacityLimiter, to_thread
from msgspec import Struct

from llm_client.errors import excerpt
from llm_client.local.errors import LocalRuntimeMissing, LocalServerFailed

__all__ = ["ServerConfig", "ServerProcess", "require_runtime"]

RUNTIME = "xllamacpp"
INSTALL = "pip install 'power-loop[local]'"
STOP_SECONDS = 5.0
LOG_TAIL = 4000


class ServerConfig(Struct, frozen=True, kw_only=True):
    """What the server is told. `model` is what it calls itself,
    `key` the secret without which it answers nobody."""

    model: str
    path: str
    key: str
    template: str
    context: int
    parallel: int
    threads: int
    max_output_tokens: int
    repeat_penalty: float

    def __repr__(self) -> str:
        return f"ServerConfig(path={self.path!r})"


def require_runtime() -> None:
    """Raises:
    LocalRuntimeMissing: what runs local models is not installed.
    """
    if find_spec(RUNTIME) is None:
        raise LocalRuntimeMissing(
            f"local models need the package {RUNTIME}, which is not installed; run: {INSTALL}"
        )


class ServerProcess:
    """One server process, started once and stopped once."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._stopped = False

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return self._process.pid if self._process is not None else None

    @property
    def alive(self) -> bool:
        """True while the process runs."""
        return self._process is not None and self._process.poll() is None

    async def start(self, seconds: float) -> str:
        """Starts the server; returns its address once it is ready to answer.

        Raises:
            LocalRuntimeMissing: what runs local models is not installed, or does not work here.
            LocalServerFailed: it did not start within `seconds`, or said why it cannot.
        """
        require_runtime()
        ready = False
        try:
            with anyio.fail_after(seconds):
                # A thread that waits for a line is left behind; stopping the process ends it. Its
                # own limiter, because nothing else may keep it waiting.
                line = await to_thread.run_sync(
                    self._begin, abandon_on_cancel=True, limiter=CapacityLimiter(1)
                )
            address = self._address(line)
            ready = True
        except TimeoutError as error:
            raise LocalServerFailed(
                f"the local model did not start within {seconds:g} s; if the machine is just very "
                "busy, raise LocalSettings.start_seconds"
            ) from error
        finally:
            if not ready:
                await self.stop()
        return address

    async def stop(self) -> None:
        """Ends the process and waits for its end, cancelled or not. Idempotent."""
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(self._end, limiter=CapacityLimiter(1))

    def _begin(self) -> bytes:
        with self._lock:
            if self._stopped:
                return b""
            process = self._spawn()
        line = b""
        # A process that has ended already breaks the pipe; what it left in its log says why.
        with suppress(OSError, ValueError):
            line = self._introduce(process)
        if b'"address"' not in line:
            # Its last words are complete when it has ended.
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        return line

    def _introduce(self, process: subprocess.Popen[bytes]) -> bytes:
        if process.stdin is None or process.stdout is None:
            return b""
        config = {name: getattr(self._config, name) for name in self._config.__struct_fields__}
        process.stdin.write(json.dumps(config).encode() + b"\n")
        process.stdin.flush()
        return process.stdout.readline()

    def _spawn(self) -> subprocess.Popen[bytes]:
        if not sys.executable:
            raise LocalServerFailed(
                "the local model runs in a Python process of its own, but sys.executable is not "
                "known in this program"
            )
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        command = [sys.executable, "-P", str(Path(__file__).with_name("_child.py"))]
        try:
            # A session of its own: Ctrl-C in a terminal is for the program, not for its server.
            self._process = subprocess.Popen(  # noqa: S603 - our own file, our own interpreter
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                bufsize=0,
                start_new_session=os.name == "posix",
                creationflags=_NEW_GROUP,
            )
        except OSError as error:
            raise LocalServerFailed(f"the local model's process cannot start: {error}") from error
        return self._process

    def _address(self, line: bytes) -> str:
        try:
            said: Any = json.loads(line)
        except ValueError:
            said = None
        facts = cast("dict[str, Any]", said) if isinstance(said, dict) else {}
        address, reason = facts.get("address"), facts.get("error")
        if isinstance(address, str):
            return address
        if isinstance(reason, str) and reason.startswith(("ImportError", "ModuleNotFoundError")):
            raise LocalRuntimeMissing(
                f"{RUNTIME} is installed but does not work here ({excerpt(reason)}); "
                f"try: {INSTALL} --force-reinstall"
            )
        status = None if self._process is None else self._process.poll()
        why = excerpt(f"{reason or ''} {self._log_tail()}")
        raise LocalServerFailed(
            f"the local model's server did not start (exit status {status}): {why}. "
            f"If the weights are damaged, delete {self._config.path} to have them fetched again"
        )

    def _log_tail(self) -> str:
        if self._log is None:
            return ""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - LOG_TAIL))
        return self._log.read().decode(errors="replace")

    def _end(self) -> None:
        with self._lock:
            self._stopped = True
            process, log = self._process, self._log
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        if log is not None:
            log.close()


_NEW_GROUP = 0x00000200 if sys.platform == "win32" else 0
