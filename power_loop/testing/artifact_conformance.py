"""Does a store of large outputs keep the promises of `ArtifactStore`? Put yours through it:

    await check_artifacts(make)

where `make(sessions)` opens a new, empty store in which there are sessions of these ids.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import anyio

from power_loop.errors import ArtifactNotFound, InvalidInput, PowerLoopError, UsageError
from power_loop.runtime.artifacts.base import ArtifactStore, handle_of
from power_loop.testing._store_harness import StoreDefect, demand, refused

__all__ = ["ARTIFACT_CHECKS", "ArtifactCheck", "MakeArtifacts", "check_artifacts"]

MakeArtifacts = Callable[[Sequence[str]], Awaitable[ArtifactStore]]
"""Opens a new, empty store in which there are sessions of these ids."""

ArtifactCheck = Callable[[MakeArtifacts], Awaitable[None]]
"""One promise, which its name says."""

_TEXT = "begin\r\n𝄞 ein Kätzchen\u2028\t" + "x" * 3000 + "\x01end"
_IDS = ("s", "S", "../../s", "a/b", "/etc/passwd", "..", ".", "CON", "ж 🐈", "s" * 2000, "s\ne")
"""Ids of sessions that must not get into each other's way, nor out of the store."""


async def a_text_comes_back_as_it_was(make: MakeArtifacts) -> None:
    """Every character of it, under its handle only."""
    store = await make(("s",))
    for text in (_TEXT, "", "x"):
        handle = handle_of(text)
        await store.put_artifact("s", handle, text)
        page = await store.read_artifact("s", handle)
        demand((page.text, page.total) == (text, len(text)), "all of a text, and how long it is")
    for handle in ("output_0", "../s", "", "x" * 100):
        unknown = store.read_artifact("s", handle)
        await refused(ArtifactNotFound, unknown, "a handle that nothing is kept under")
    nobody = store.read_artifact("nobody", handle_of(_TEXT))
    await refused(ArtifactNotFound, nobody, "a text of a session that there is not")


async def pages_are_counted_in_characters(make: MakeArtifacts) -> None:
    """Wherever they begin and however long they are, together they are the text."""
    store = await make(("s",))
    await store.put_artifact("s", "h", _TEXT)
    size = len(_TEXT)
    for offset in (0, 1, 8, 9, size - 1, size, size + 7, 2**40):
        for length in (0, 1, 7, size, 2**40, None):
            page = await store.read_artifact("s", "h", offset, length)
            wanted = _TEXT[offset:] if length is None else _TEXT[offset : offset + length]
            demand(page.text == wanted, f"{length} characters from {offset} on")
            demand(page.total == size, "each page says how long the whole is")
    for offset, length in ((-1, 1), (0, -1)):
        bad = store.read_artifact("s", "h", offset, length)
        await refused(UsageError, bad, "a page before the beginning, or of less than nothing")


async def a_text_takes_the_place_of_another(make: MakeArtifacts) -> None:
    """The last one put counts, whole."""
    store = await make(("s",))
    for text in ("a long text", "short", "short"):
        await store.put_artifact("s", "h", text)
        demand((await store.read_artifact("s", "h")).text == text, "the newest text is kept")
    demand(list(await store.list_artifacts("s")) == ["h"], "it is kept once")


async def what_cannot_be_kept_is_refused(make: MakeArtifacts) -> None:
    """A handle that is none, a text that no database takes; and nothing is left of it."""
    store = await make(("s",))
    for handle in ("", "../h", "a/b", "a b", "h\n", "ж", "x" * 65):
        await refused(UsageError, store.put_artifact("s", handle, "x"), f"the handle {handle!r}")
    for text in ("a\x00b", "a\ud800b"):
        await refused(InvalidInput, store.put_artifact("s", "h", text), f"the text {text!r}")
    demand(not await store.list_artifacts("s"), "what was refused is not kept")


async def sessions_do_not_see_each_other(make: MakeArtifacts) -> None:
    """However alike their ids are, or whatever these would mean as a path."""
    store = await make(_IDS)
    for session in _IDS:
        await store.put_artifact(session, "h", f"of {session}")
    for session in _IDS:
        text = (await store.read_artifact(session, "h")).text
        demand(text == f"of {session}", f"the text of the session {session!r:.20} is its own")
    demand(await store.delete_artifacts("s") == 1, "it says how many went")
    demand(not await store.list_artifacts("s"), "what was deleted is gone")
    for session in _IDS[1:]:
        demand(list(await store.list_artifacts(session)) == ["h"], "others stay when one goes")


async def all_are_listed_and_deleted(make: MakeArtifacts) -> None:
    """By their handles, sorted; and deleting is idempotent."""
    store = await make(("s", "t"))
    handles = [f"h-{n:02d}_A" for n in range(20)]
    for handle in reversed(handles):
        await store.put_artifact("s", handle, handle)
    demand(list(await store.list_artifacts("s")) == handles, "all handles, sorted")
    for session in ("t", "nobody"):
        demand(not await store.list_artifacts(session), "no handles where nothing is kept")
        demand(await store.delete_artifacts(session) == 0, "nothing to delete is no error")
    demand(await store.delete_artifacts("s") == len(handles), "all of them go")
    demand(await store.delete_artifacts("s") == 0, "they go once")
    gone = store.read_artifact("s", handles[0])
    await refused(ArtifactNotFound, gone, "a text that was deleted")


async def a_copy_has_texts_of_its_own(make: MakeArtifacts) -> None:
    """It outlives the original, and does not change with it."""
    store = await make(("s", "copy"))
    for handle in ("a", "b"):
        await store.put_artifact("s", handle, _TEXT + handle)
    await store.put_artifact("copy", "own", "own")
    demand(await store.copy_artifacts("s", "copy") == 2, "it says how many there were")
    demand(await store.copy_artifacts("nobody", "copy") == 0, "of nobody there are none")
    await store.put_artifact("s", "a", "changed")
    await store.delete_artifacts("s")
    demand(list(await store.list_artifacts("copy")) == ["a", "b", "own"], "all, beside its own")
    demand((await store.read_artifact("copy", "a")).text == _TEXT + "a", "as they were")


async def many_at_once_do_not_mix(make: MakeArtifacts) -> None:
    """Texts that are put side by side, some of them under one handle."""
    store = await make(("s", "t"))
    texts = [str(n) * 5000 for n in range(8)]

    async def put(n: int) -> None:
        await store.put_artifact("s", f"h{n}", texts[n])
        await store.put_artifact("t", "same", texts[n])

    async with anyio.create_task_group() as tasks:
        for n in range(len(texts)):
            tasks.start_soon(put, n)
    for n, text in enumerate(texts):
        demand((await store.read_artifact("s", f"h{n}")).text == text, "each is kept as it was")
    demand((await store.read_artifact("t", "same")).text in texts, "one of them is kept, whole")


ARTIFACT_CHECKS: tuple[ArtifactCheck, ...] = (
    a_text_comes_back_as_it_was,
    pages_are_counted_in_characters,
    a_text_takes_the_place_of_another,
    what_cannot_be_kept_is_refused,
    sessions_do_not_see_each_other,
    all_are_listed_and_deleted,
    a_copy_has_texts_of_its_own,
    many_at_once_do_not_mix,
)


async def check_artifacts(make: MakeArtifacts, *, patience: float = 30.0) -> None:
    """Puts a store through all checks, each of which may take `patience` seconds.

    Raises:
        StoreDefect: promises are not kept; names them all.
    """
    defects: list[str] = []
    for check in ARTIFACT_CHECKS:
        name = getattr(check, "__name__", "a_check")
        told = await _defect(partial(check, make), patience)
        defects += [] if told is None else [f"{name}: {told}"]
    if defects:
        raise StoreDefect("\n".join(defects))


async def _defect(check: Callable[[], Awaitable[None]], patience: float) -> str | None:
    try:
        with anyio.fail_after(patience):
            await check()
    except TimeoutError:
        return f"nothing happened for {patience:g} s"
    except (StoreDefect, PowerLoopError, ExceptionGroup) as error:
        return str(error) if isinstance(error, StoreDefect) else f"raised {error!r}"
    return None
