"""What agents remember is kept for its owner, found by its words, and forgotten for good."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from sqlite3 import Connection
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from power_loop.errors import NotesFull, StoreCorrupt, StoreUnavailable, UsageError
from power_loop.runtime.stores._sqlite_schema import SCHEMA_VERSION
from power_loop.runtime.stores.memory import MemoryStore
from power_loop.runtime.stores.notes import (
    EVERY_NOTE,
    LONGEST_NOTE,
    Note,
    NoteFilter,
    NoteScope,
    NoteStore,
    StoreWithNotes,
    all_notes,
    export_memory,
    forget_memory,
)
from power_loop.runtime.stores.opening import open_store
from power_loop.runtime.stores.sqlite import SQLiteStore
from power_loop.runtime.stores.words import terms_of, words_of
from tests.stores.places import KINDS, Kind, new_place, open_place
from tests.stores.support import Program, a_note, set_back

pytestmark = pytest.mark.anyio

ANN = NoteFilter(owners={"user": "ann"})


@pytest.fixture
def anyio_backend() -> str:
    """That stores serve any event loop has tests of its own."""
    return "asyncio"


@pytest.fixture(params=["memory", *KINDS])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreWithNotes]:
    """Each kind of store, with nothing in it."""
    if request.param == "memory":
        yield MemoryStore()
        return
    opened = open_place(new_place(request.param, tmp_path))
    yield opened
    await opened.aclose()


@pytest.fixture
def notes(store: StoreWithNotes) -> NoteStore:
    """Its notes."""
    return store.notes


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a durable store can be."""
    kind: Kind = request.param
    return new_place(kind, tmp_path)


def ids(found: Sequence[Note]) -> list[str]:
    """Of which notes."""
    return [note.id for note in found]


async def keep(notes: NoteStore, *texts: str) -> None:
    """Keeps texts of Ann's as the notes 0, 1, 2 …, each younger than the one before."""
    for n, text in enumerate(texts):
        await notes.add(a_note(str(n), text, created=float(n)))


# ── keeping ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_note_comes_back_as_it_was_kept(notes: NoteStore) -> None:
    """Every field of it, in every script."""
    note = Note(
        id="n1",
        scope="agent",
        user="ann",
        agent="helper",
        session="s",
        text="  <b>Ä</b> 'quoted' \"twice\"\n北京 \U0001f600 100% $1 \\",
        kind="fact",
        created=1764134400.25,
        run="r",
    )
    await notes.add(note)
    assert [*await notes.list(EVERY_NOTE)] == [note]
    assert [*await notes.search("北京", EVERY_NOTE)] == [note]


async def test_a_note_that_is_added_again_is_one(notes: NoteStore) -> None:
    """The first stays as it is; so whoever does not know whether it was added adds it again."""
    await notes.add(a_note("n", "first"), limit=1)
    await notes.add(a_note("n", "second"), limit=1)
    assert [note.text for note in await notes.list(EVERY_NOTE)] == ["first"]
    assert ids(await notes.search("second", ANN)) == []


async def test_notes_are_listed_newest_first_page_by_page(notes: NoteStore) -> None:
    """Also those of one moment, each once; and all of them, however many."""
    for n in range(450):
        await notes.add(a_note(f"n{n:03}", "x", created=float(n // 100)))
    expected = [f"n{n:03}" for n in range(449, -1, -1)]
    pages: list[str] = []
    last: Note | None = None
    while page := await notes.list(ANN, limit=70, before=last):
        pages += ids(page)
        last = page[-1]
    assert pages == expected
    assert ids(await all_notes(notes, ANN)) == expected
    assert await notes.count(ANN) == 450
    assert ids(await notes.list(ANN, limit=0)) == []


async def test_a_full_memory_refuses_or_lets_the_oldest_go(notes: NoteStore) -> None:
    """Each owner and each kind has a limit of its own; what was let go is not found."""
    for n in range(3):
        await notes.add(a_note(f"n{n}", f"word{n}", created=float(n)), limit=3)
    with pytest.raises(NotesFull, match="'ann' has 3 notes") as full:
        await notes.add(a_note("n3", "word3", created=3.0), limit=3)
    assert (full.value.owner, full.value.limit) == ("ann", 3)
    await notes.add(a_note("f", "a fact", kind="fact"), limit=1)
    await notes.add(a_note("b", "another's", user="bob"), limit=1)
    await notes.add(a_note("n4", "word4", created=4.0), limit=2, when_full="fifo")
    mine = NoteFilter(owners={"user": "ann"}, kind="note")
    assert ids(await notes.list(mine)) == ["n4", "n2"]
    assert ids(await notes.search("word0 word1 word2 word4", mine)) == ["n4", "n2"]
    assert await notes.count(EVERY_NOTE) == 4


async def test_a_text_that_is_changed_is_found_by_its_new_words_only(notes: NoteStore) -> None:
    """And counts as new."""
    await keep(notes, "a red house", "a blue car")
    assert await notes.update(NoteFilter(ids=["0"]), "a green boat", 9.0) == 1
    assert await notes.update(NoteFilter(ids=["none"]), "nothing", 9.0) == 0
    assert ids(await notes.search("house red", ANN)) == []
    assert ids(await notes.search("boat", ANN)) == ["0"]
    assert ids(await notes.list(ANN)) == ["0", "1"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"user": ""}, "needs an id and a user"),
        ({"id": ""}, "needs an id"),
        ({"scope": "world"}, "user, agent, session"),
        ({"kind": "rumour"}, "note, fact"),
        ({"text": " \n"}, "must say something"),
        ({"text": "nul \x00"}, "NUL or a lone surrogate"),
        ({"text": "lone \ud800"}, "NUL or a lone surrogate"),
        ({"run": "nul \x00"}, "the run of a note"),
        ({"text": "x" * (LONGEST_NOTE + 1)}, "at most 20,000 characters, this one 20,001"),
    ],
)
async def test_what_is_no_note_is_refused(
    notes: NoteStore, changes: dict[str, Any], said: str
) -> None:
    """By every store alike, before anything is written."""
    sound: dict[str, Any] = {"id": "n", "scope": "user", "user": "ann", "text": "x", "created": 0.0}
    with pytest.raises(UsageError, match=said):
        await notes.add(Note(**{**sound, **changes}))
    assert await notes.count(EVERY_NOTE) == 0


async def test_the_longest_note_is_kept_and_found(notes: NoteStore) -> None:
    """Also one in which every character is a word, and one that is a single word."""
    every = "".join([chr(0x4E00 + n) for n in range(LONGEST_NOTE)])
    await keep(notes, every, "y" * LONGEST_NOTE)
    assert ids(await notes.search(every[-2:], ANN)) == ["0"]
    assert ids(await notes.search("y" * LONGEST_NOTE, ANN)) == ["1"]


# ── whose they are ───────────────────────────────────────────────────────────────────────────────


async def test_nobody_meets_the_notes_of_another(notes: NoteStore) -> None:
    """Not by searching, listing, counting, changing or deleting; nor an agent of a user's name."""
    scopes: list[NoteScope] = ["user", "agent", "session"]
    for scope in scopes:
        for name in ("ann", "bob"):
            note = a_note(f"{scope} {name}", "a secret", scope=scope, user="")
            await notes.add(replace(note, **{scope: name}))
    for scope in scopes:
        which = NoteFilter(owners={scope: "ann"})
        assert ids(await notes.search("secret", which)) == [f"{scope} ann"]
        assert ids(await notes.list(which)) == [f"{scope} ann"]
        assert await notes.count(which) == 1
    theirs = NoteFilter(owners={"user": "ann"}, ids=["user bob", "agent ann"])
    assert await notes.update(theirs, "taken over", 1.0) == 0
    assert await notes.delete(theirs) == 0
    both = NoteFilter(owners={"user": "ann", "session": "bob"})
    assert {*ids(await notes.search("secret", both))} == {"user ann", "session bob"}
    assert await notes.delete(both) == 2
    assert await notes.count(EVERY_NOTE) == 4


async def test_no_owner_and_no_id_means_nothing_rather_than_everything(notes: NoteStore) -> None:
    """A filter that was computed and came out empty must not delete the whole store."""
    await keep(notes, "one")
    for empty in (NoteFilter(owners={}), NoteFilter(ids=[]), NoteFilter(user="")):
        assert await notes.count(empty) == 0
        assert ids(await notes.list(empty)) == []
        assert ids(await notes.search("one", empty)) == []
        assert await notes.delete(empty) == 0
    assert await notes.count(EVERY_NOTE) == 1


async def test_notes_of_a_session_go_with_it_and_no_others(store: StoreWithNotes) -> None:
    """With those of sessions below; what belongs to the person or the agent stays."""
    await store.create("s")
    await store.create("s/1", parent="s")
    await store.create("s/2", parent="s", lifecycle="detached")
    for n, (scope, session) in enumerate(
        [("session", "s"), ("session", "s/1"), ("session", "s/2"), ("user", "s"), ("agent", "s")]
    ):
        note = a_note(str(n), "a word", scope=scope, session=session, agent="a", created=float(n))
        await store.notes.add(note)
    assert await store.delete("s") == 2
    assert ids(await store.notes.list(EVERY_NOTE)) == ["4", "3", "2"]
    assert {*ids(await store.notes.search("word", EVERY_NOTE))} == {"4", "3", "2"}


async def test_a_person_is_shown_and_forgotten_whole(notes: NoteStore) -> None:
    """Whatever came of their runs, notes and facts, theirs and those of agents and sessions."""
    for n, (user, scope, kind) in enumerate(
        [
            ("ann", "user", "note"),
            ("ann", "user", "fact"),
            ("ann", "agent", "note"),
            ("ann", "session", "fact"),
            ("bob", "user", "note"),
            ("", "agent", "note"),
        ]
    ):
        note = a_note(
            str(n),
            f"dog of {user}",
            created=float(n),
            scope=scope,
            user=user,
            agent="a",
            session="s",
            kind=kind,
        )
        await notes.add(note)
    assert ids(await export_memory(notes, "ann")) == ["3", "2", "1", "0"]
    assert await forget_memory(notes, "ann") == 4
    assert await export_memory(notes, "ann") == []
    assert ids(await notes.search("ann's dog", EVERY_NOTE, limit=50)) == ["5", "4"]
    for nobody in (export_memory, forget_memory):
        with pytest.raises(UsageError, match="nobody has an empty name"):
            await nobody(notes, "")
    assert await notes.count(EVERY_NOTE) == 2


# ── finding ──────────────────────────────────────────────────────────────────────────────────────

TEXTS = (
    "Ann is allergic to nuts and to the pollen of birches",
    "The project Kite is deployed on Fridays, after the tests",
    "Her dog is called Rex; the cat has no name",
    "Ann's favourite cafés serve crème brûlée",
    "我喜欢北京的天气，不喜欢上海的夏天",
    "東京タワーに行きたい",
    "Приватный ключ лежит в сейфе",
    "ฉันชอบกินข้าวผัดกุ้ง",
    "मुझे हिन्दी पढ़ना पसंद है",
    "서울에서 일합니다",
    "invoice 2026-114 of ACME GmbH, user_id=7f3a",
    "see the the the of of and it is what it is",
)


@pytest.mark.parametrize(
    ("query", "best"),
    [
        ("What is the name of my dog?", 2),
        ("Which NUTS can't she eat", 0),
        ("what is deployed on a friday", 1),
        ("where do they serve creme brulee in a cafe", 3),
        ("北京天气怎么样？", 4),
        ("夏", 4),
        ("我想去東京", 5),
        ("где мой ключ?", 6),
        ("ข้าวผัด", 7),
        ("हिन्दी", 8),
        ("서울", 9),
        ("the invoices of acme", 10),
        ("2026-114", 10),
        ("user_id 7f3a", 10),
        ("what is it", 11),
        ("deploy", 1),
    ],
)
async def test_the_best_note_for_a_question_comes_first(
    notes: NoteStore, query: str, best: int
) -> None:
    """Whatever the language: rare words count, and neither case, accents nor plurals matter."""
    await keep(notes, *TEXTS)
    assert ids(await notes.search(query, ANN))[:1] == [str(best)]


async def test_of_equal_notes_the_newest_comes_first_and_no_more_than_asked_for(
    notes: NoteStore,
) -> None:
    """And one that has more of the words comes before both."""
    await keep(notes, "red apple", "red apple", "red apple pie", "blue sky")
    assert ids(await notes.search("red", ANN)) == ["1", "0", "2"]
    assert ids(await notes.search("red pie", ANN, limit=2)) == ["2", "1"]
    assert ids(await notes.search("red", ANN, limit=0)) == []


@pytest.mark.parametrize(
    "query",
    [
        "",
        " ",
        "?!",
        "\x00",
        "\ud800 lone",
        "\U0001f600❤️",
        '"',
        "'",
        "''; DROP TABLE notes; --",
        '" OR place : "x',
        "NEAR(a b, 2)",
        "AND OR NOT",
        "^a*",
        "{words} : x",
        "-a +b",
        "a:*b & | ! <-> ()",
        "%s %(x)s $1 ?",
        "\\",
        "*",
        "a" * 100_000,
        "word " * 100_000,
        " ".join(map(str, range(5_000))),
        "e" + "\u0301" * 5_000,
    ],
)
async def test_no_query_is_an_error(notes: NoteStore, query: str) -> None:
    """What is no word finds nothing; operators and quotes mean nothing."""
    await keep(notes, "unrelated")
    assert ids(await notes.search(query, ANN)) == []
    assert ids(await notes.search(f"{query} unrelated", ANN))[:1] == ["0"]


@given(st.text(max_size=200))
def test_a_word_is_one_for_every_database_and_a_query_is_bounded(text: str) -> None:
    """No word has a space or a sign in it; each of a note's words finds it."""
    words = words_of(text)
    for word in words:
        assert not {*word} & {*" '\"\\*:&|!()<>%?-_\x00\t\n"}
        assert 0 < len(word) <= 64
        assert word.isprintable() or not word.isascii()
    terms = terms_of(text * 50)
    assert len(terms) <= 64
    assert {term.word for term in terms} <= {*words_of(text * 50)}


# ── durable stores ───────────────────────────────────────────────────────────────────────────────

WORDS = st.sampled_from(["red", "reds", "Äpfel", "apfel", "apfelbaum", "北京", "京都", "x1", "the"])
SAID = st.lists(WORDS, min_size=1, max_size=5).map(" ".join)
OWNERS = st.dictionaries(
    st.sampled_from(["user", "agent", "session"]), st.sampled_from(["a", "b"]), max_size=2
)
FILTERS = st.builds(
    NoteFilter,
    owners=st.one_of(st.none(), OWNERS),
    user=st.sampled_from([None, None, "a", "b"]),
    kind=st.sampled_from([None, None, "note", "fact"]),
    ids=st.one_of(st.none(), st.lists(st.sampled_from("abcdef"), max_size=3)),
)
NOTES = st.builds(
    Note,
    id=st.sampled_from("abcdefgh"),
    scope=st.sampled_from(["user", "agent", "session"]),
    user=st.sampled_from(["a", "b"]),
    agent=st.sampled_from(["a", "b"]),
    session=st.sampled_from(["a", "b"]),
    kind=st.sampled_from(["note", "fact"]),
    text=SAID,
    created=st.integers(0, 3).map(float),
)
Step = tuple[str, tuple[Any, ...]]
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("add"),
            st.tuples(NOTES, st.sampled_from([None, 1, 2, 3]), st.sampled_from(["reject", "fifo"])),
        ),
        st.tuples(st.just("update"), st.tuples(FILTERS, SAID, st.integers(0, 3).map(float))),
        st.tuples(st.just("delete"), st.tuples(FILTERS)),
        st.tuples(st.just("search"), st.tuples(SAID, FILTERS)),
        st.tuples(st.just("list"), st.tuples(FILTERS)),
    ),
    min_size=1,
    max_size=25,
)


async def _taken(notes: NoteStore, step: Step) -> Any:
    """What comes of one call."""
    name, arguments = step
    try:
        match name:
            case "add":
                note, limit, when_full = arguments
                return await notes.add(note, limit=limit, when_full=when_full)
            case "search":
                return [*await notes.search(*arguments, limit=100)]
            case _:
                found = await getattr(notes, name)(*arguments)
                return found if isinstance(found, int) else [*found]
    except NotesFull as full:
        return full.owner, full.limit


async def _compared(durable: StoreWithNotes, steps: Sequence[Step], *, ranks: bool) -> None:
    memory = MemoryStore().notes
    await durable.notes.delete(EVERY_NOTE)
    for step in steps:
        expected, actual = await _taken(memory, step), await _taken(durable.notes, step)
        if step[0] == "search" and not ranks:
            assert {*ids(actual)} == {*ids(expected)}
        else:
            assert actual == expected, step
    assert await all_notes(durable.notes, EVERY_NOTE) == await all_notes(memory, EVERY_NOTE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_durable_store_answers_as_the_one_in_memory_does(kind: Kind, tmp_path: Path) -> None:
    """Any history of calls. SQLite ranks by the measure of FTS5, which weighs all owners' notes."""
    place = new_place(kind, tmp_path)

    @settings(max_examples=40, deadline=None)
    @given(STEPS)
    def compare(steps: Sequence[Step]) -> None:
        async def run() -> None:
            durable = open_place(place)
            try:
                await _compared(durable, steps, ranks=kind == "postgres")
                assert await durable.check() == 0
            finally:
                await durable.aclose()

        anyio.run(run)

    compare()
    assert kind in KINDS


async def test_notes_outlive_the_process_and_are_seen_by_others(place: str) -> None:
    """Two handles on one store, and a later one."""
    first, second = open_place(place), open_place(place)
    assert ids(await second.notes.search("dog", EVERY_NOTE)) == []
    await first.notes.add(a_note("n", "a dog"))
    assert ids(await second.notes.search("dog", EVERY_NOTE)) == ["n"]
    await first.aclose()
    await second.aclose()
    with pytest.raises(StoreUnavailable, match="is closed"):
        await second.notes.count(EVERY_NOTE)
    third = open_place(place)
    assert ids(await third.notes.list(ANN)) == ["n"]
    await third.aclose()


@pytest.mark.parametrize(("when_full", "refused"), [("reject", 50), ("fifo", 0)])
async def test_two_processes_at_once_never_keep_more_than_the_limit(
    place: str, when_full: str, refused: int
) -> None:
    """All add at the same moment; whoever is late is refused, or makes the oldest go."""
    with (
        Program("fill", place, "a", 30, 10, when_full) as first,
        Program("fill", place, "b", 30, 10, when_full) as second,
    ):
        assert (first.says(), second.says()) == ("ready", "ready")
        first.tell()
        second.tell()
        assert int(first.rest()) + int(second.rest()) == refused
    store = open_place(place)
    assert await store.notes.count(EVERY_NOTE) == 10
    assert len(await store.notes.search("full", EVERY_NOTE, limit=50)) == 10
    assert await store.check() == 0
    await store.aclose()


async def test_a_process_killed_while_it_notes_leaves_no_half_of_a_note(place: str) -> None:
    """SIGKILL at many moments: what was acknowledged is there, and whatever is there is found."""
    for round in range(5):
        owner = f"u{round}"
        with Program("note", place, owner) as program:
            acknowledged = 0
            while acknowledged < 3 + 7 * round:
                acknowledged = int(program.says())
            acknowledged = int([str(acknowledged), *program.kill()][-1])
        store = open_place(place)
        which = NoteFilter(owners={"user": owner})
        kept = await all_notes(store.notes, which)
        assert len(kept) in (acknowledged, acknowledged + 1)
        for note in kept:
            number = note.text.removeprefix("number ")
            assert ids(await store.notes.search(number, which, limit=1)) == [note.id]
        await store.notes.add(a_note(f"{owner}0", "the successor's", user=owner))
        assert await store.check() == 0
        await store.aclose()


async def test_a_program_killed_at_any_statement_of_its_first_note_leaves_all_or_none(
    tmp_path: Path,
) -> None:
    """The index of words is made with it, in the same transaction; the next program goes on."""
    path = tmp_path / "s.db"
    async with SQLiteStore(path) as store:
        await store.create("s")
    with Program("note_killed", path) as program:
        left = [*map(int, program.rest().splitlines())]
    assert len(left) > 15
    assert {*left[:-1]} >= {0}
    assert left == sorted(left)
    assert left[-1] == 1
    for n, kept in enumerate(left, 1):
        async with SQLiteStore(f"{path}.{n}") as store:
            assert len(await store.notes.search("first", ANN)) == kept
            await store.notes.add(a_note("m", "a second word"))
            assert len(await store.notes.search("word", ANN)) == kept + 1
            assert await store.check() == 0


def _no(option: str) -> int:
    return 0


def _without_fts5(connection: Connection) -> None:
    connection.create_function("sqlite_compileoption_used", 1, _no)


async def test_without_fts5_all_works_but_notes(tmp_path: Path) -> None:
    """They are refused with what to do; a database that has some is opened all the same."""
    path = tmp_path / "s.db"
    async with SQLiteStore(path, prepare=_without_fts5) as store:
        await store.create("s")
        assert await store.delete("s") == 1
        for call in (
            lambda: store.notes.add(a_note("n", "x")),
            lambda: store.notes.search("x", ANN),
        ):
            with pytest.raises(StoreUnavailable, match="need SQLite's FTS5"):
                await call()
        assert ids(await store.notes.list(EVERY_NOTE)) == []
    async with SQLiteStore(path) as able:
        await able.notes.add(a_note("n", "x"))
        assert ids(await able.notes.search("x", ANN)) == ["n"]


async def test_a_backup_has_the_notes_and_a_check_looks_at_their_index(tmp_path: Path) -> None:
    """Found by their words there; an index that has lost one is told of."""
    async with SQLiteStore(tmp_path / "s.db") as store:
        await keep(store.notes, "a dog", "a cat")
        await store.backup(tmp_path / "copy.db")
        await store.vacuum()
        assert ids(await store.notes.search("cat", ANN)) == ["1"]
    async with SQLiteStore(tmp_path / "copy.db") as copy:
        assert ids(await copy.notes.search("dog", ANN)) == ["0"]
        assert await copy.check() == 0
    connection = sqlite3.connect(tmp_path / "copy.db")
    connection.execute("DELETE FROM notes_text_docsize WHERE id = 1")
    connection.commit()
    connection.close()
    async with SQLiteStore(tmp_path / "copy.db") as copy:
        with pytest.raises(StoreCorrupt, match="the index of its 2 notes has 1"):
            await copy.check()
        await copy.vacuum()
        assert await copy.check() == 0
        assert ids(await copy.notes.search("dog", ANN)) == ["0"]


def _bytes_in(directory: Path) -> bytes:
    return b"".join([file.read_bytes() for file in directory.iterdir()])


async def test_of_a_forgotten_note_no_byte_is_left_after_a_vacuum(tmp_path: Path) -> None:
    """Neither in the file, where deleted rows and FTS5's own pages linger, nor in its log."""
    path = tmp_path / "s.db"
    async with SQLiteStore(path) as store:
        await keep(store.notes, *[f"filler{n} zanzibar{n}" for n in range(50)])
        await store.notes.add(a_note("b", "quetzalcoatl's whereabouts", user="bob"))
        await store.notes.add(a_note("c", "unrelated", user="carol"))
        assert await forget_memory(store.notes, "bob") == 1
        await store.vacuum()
        left = _bytes_in(tmp_path)
        assert b"zanzibar7" in left
        assert b"quetzal" not in left.lower()
        assert ids(await store.notes.search("zanzibar7", ANN)) == ["7"]


async def test_a_database_that_knows_no_notes_yet_can_have_some(tmp_path: Path) -> None:
    """Of every earlier version; deleting a session of that time works, too."""
    for version in range(1, SCHEMA_VERSION):
        path = tmp_path / f"{version}.db"
        async with SQLiteStore(path) as store:
            await store.create("s")
        set_back(path, version)
        async with SQLiteStore(path) as store:
            await store.notes.add(a_note("n", "x", scope="session", session="s"))
            assert await store.delete("s") == 1
            assert await store.notes.count(EVERY_NOTE) == 0


def test_what_a_url_names_has_notes() -> None:
    """Also for a type checker: no cast is needed to remember."""
    opened: Callable[[str], StoreWithNotes] = open_store
    assert anyio.run(opened("memory:").notes.count, EVERY_NOTE) == 0
