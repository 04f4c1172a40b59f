"""Counting tokens: exact for OpenAI's text, estimated and calibrated elsewhere, each once."""

from __future__ import annotations

import gzip
import math
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from statistics import median

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_client.codecs._json import is_object
from llm_client.tokens import Calibration, ModelTokens, TokenEstimate
from llm_client.tokens.families import family_of
from llm_client.tokens.incremental import IncrementalCount
from llm_client.types import (
    Audio,
    File,
    Image,
    LLMRequest,
    Message,
    OutputSchema,
    Part,
    Seal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    ToolSpec,
    Transcript,
    Usage,
)
from tests.corpus import need_corpus, read_jsonl
from tests.telling import Tell
from tests.token_table import ENOUGH, openai_texts, table, vendors

ROOT = Path(__file__).resolve().parents[2]

# Where tiktoken looks for a vocabulary: the SHA-1 of its usual address.
TIKTOKEN_FILES = {
    "o200k_base": "fb374d419588a4632f3f557e76b4b70aebbca790",
    "cl100k_base": "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
}

SAMPLES = (
    "",
    "Hello, world! It's 2026 — naïve café.",
    "<|endoftext|> is text like any other <|fim_prefix|>",
    "天地玄黄，宇宙洪荒。 한국어 日本語",
    "def f(x):\n    return x  \n\n\t\tif\r\n",
    "a\ud800b",
    "🤖👩‍👩‍👧 ́́ ",
    "DON'T can't I'LL 12345678 https://example.org/a//\n/",
    " " * 300 + "x" + "\u3000" * 99 + "\u0085\u2028",
)

TEXTS = st.text(st.characters(), max_size=40)
PARTS: st.SearchStrategy[Part] = st.one_of(
    st.builds(Text, TEXTS),
    st.builds(Thinking, TEXTS),
    st.builds(ToolCall, st.just("c"), TEXTS, TEXTS),
    st.builds(ToolResult, st.just("c"), st.tuples(st.builds(Text, TEXTS))),
    st.builds(Image, st.binary(max_size=40)),
    st.builds(Audio, st.binary(max_size=40), st.sampled_from(["wav", "mp3", "pcm16"])),
    st.builds(File, st.binary(max_size=40), media_type=st.sampled_from(["text/plain", None])),
)
MESSAGES = st.lists(
    st.builds(Message, st.just("user"), st.lists(PARTS, max_size=3).map(tuple)), max_size=8
)
MODELS = st.sampled_from(["gpt-4o", "claude-sonnet-4-5", "gemini-2.5-flash", "who-knows"])


def as_tiktoken_counts(name: str, folder: Path, texts: list[str]) -> list[int]:
    """What tiktoken itself makes of `texts`, from vocabularies put where it looks for them."""
    packed = files("llm_client.tokens").joinpath("vocabularies", f"{name}.tiktoken.gz")
    (folder / TIKTOKEN_FILES[name]).write_bytes(gzip.decompress(packed.read_bytes()))
    code = (
        "import sys, msgspec, tiktoken\n"
        f"encoding = tiktoken.get_encoding({name!r})\n"
        "texts = [t.decode('utf-8', 'surrogatepass') for t in"
        " msgspec.msgpack.decode(sys.stdin.buffer.read())]\n"
        "print(*[len(encoding.encode_ordinary(text)) for text in texts])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TIKTOKEN_CACHE_DIR": str(folder)},
        input=msgspec.msgpack.encode([text.encode("utf-8", "surrogatepass") for text in texts]),
        capture_output=True,
        check=True,
    )
    return [int(count) for count in done.stdout.split()]


@pytest.mark.parametrize(
    ("name", "model"), [("o200k_base", "gpt-4o"), ("cl100k_base", "gpt-3.5-turbo")]
)
def test_text_is_counted_as_tiktoken_counts_it(name: str, model: str, tmp_path: Path) -> None:
    """The vocabulary and the pattern are those of tiktoken, which checks them itself."""
    texts = [*SAMPLES, Path(__file__).read_text(), (ROOT / "README.md").read_text()]
    counter = ModelTokens(model)
    counts = [counter.count_text(text) for text in texts]
    assert counts == as_tiktoken_counts(name, tmp_path, texts)


def test_counting_needs_no_network_no_cache_and_no_variable() -> None:
    """Every socket is forbidden, and the vocabulary is read from the package itself."""
    code = (
        "import socket, sys\n"
        "def refuse(*_): raise SystemExit('a socket was opened')\n"
        "sys.addaudithook(lambda event, _: refuse() if event.startswith('socket.') else None)\n"
        "from llm_client.tokens import ModelTokens\n"
        "assert 'tiktoken' not in sys.modules\n"
        "ModelTokens('who-knows').count_text('hello')\n"
        "assert 'tiktoken' not in sys.modules\n"
        "print(ModelTokens('gpt-5').count_text('hello world'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "TIKTOKEN_CACHE_DIR": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "2", done.stderr


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4"])
@pytest.mark.parametrize("text", [" ", "\u3000", "\n", "a", "中", " a"], ids=ascii)
def test_hostile_text_is_counted(model: str, text: str) -> None:
    """A million blanks, which tiktoken's engine cannot do in one piece, and other monotony; twice
    as much of it gives twice the tokens."""
    counter = ModelTokens(model)
    half, whole = counter.count_text(text * 600_000), counter.count_text(text * 1_200_000 + "b")
    assert whole == pytest.approx(2 * half, rel=0.01)


def test_plain_text_for_openai_is_exact_and_framed_by_its_recipe() -> None:
    """Three tokens around a message, one for its role, one for a name, three for the answer."""
    request = LLMRequest([Message("user", (Text("hello"),), name="bob")], system="hello")
    assert ModelTokens("gpt-4o").count_request(request) == TokenEstimate(
        (4 + 1) + (4 + 1 + 1 + 1) + 3, exact=True
    )


def test_what_is_not_published_is_not_called_exact() -> None:
    """Tools, images, schemas, and every model whose vocabulary is not here."""
    hello = Message.user("hello")
    tool = ToolSpec("f", "does", {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}})
    plain = LLMRequest([hello])
    inexact = [
        msgspec.structs.replace(plain, tools=(tool,)),
        msgspec.structs.replace(plain, server_tools=({"type": "web_search"},)),
        msgspec.structs.replace(plain, output_schema=OutputSchema("o", {"type": "object"})),
        LLMRequest([Message.user("see", Image(b"?"))]),
    ]
    counter = ModelTokens("gpt-4o")
    base = counter.count_request(plain)
    assert base.exact
    for request in inexact:
        count = counter.count_request(request)
        assert not count.exact
        assert count.tokens > base.tokens
    for model in ("gpt-5", "o3", "claude-opus-4-5", "gemini-3-pro", "qwen3", "x"):
        assert not ModelTokens(model).count_request(plain).exact


@pytest.mark.parametrize(
    ("model", "vocabulary"),
    [
        ("gpt-4o-2024-08-06", "o200k_base"),
        ("openai/gpt-4.1-mini", "o200k_base"),
        ("ft:gpt-4o-mini:org::id", "o200k_base"),
        ("o3", "o200k_base"),
        ("o4-mini-2025-04-16", "o200k_base"),
        ("gpt-5.2-pro", "o200k_base"),
        ("gpt-oss:20b", "o200k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("gpt-35-turbo", "cl100k_base"),
        ("gpt-4", "cl100k_base"),
        ("us.anthropic.claude-sonnet-4-5-v1:0", "o200k_base"),
        ("models/gemini-2.5-flash", "o200k_base"),
        ("deepseek-ai/DeepSeek-R1", "o200k_base"),
        ("mixtral-8x7b", "o200k_base"),
        ("olmo-2", None),
        ("gpt-4all", None),
        ("", None),
    ],
)
def test_a_model_has_the_vocabulary_of_its_family(model: str, vocabulary: str | None) -> None:
    """Under the names that gateways and fine-tuning give it."""
    assert family_of(model).vocabulary == vocabulary


def test_estimates_know_dense_scripts_from_others() -> None:
    """0.7 tokens a Chinese, Japanese or Korean character; 3.6 other characters a token. Of models
    that nothing is known of."""
    counter = ModelTokens("who-knows")
    assert counter.count_text("") == 0
    assert counter.count_text("a") == 1
    assert counter.count_text("a" * 360) == 100
    assert counter.count_text("汉" * 100) == 70
    assert counter.count_text("汉" * 100 + "a" * 360) == 170


def test_reasoning_counts_where_it_is_sent_back() -> None:
    """OpenAI's protocol has no place for it; of an encrypted block the size is known."""
    thoughts = "deep thoughts " * 50
    shown = Message("assistant", (Thinking(thoughts), Text("so")))
    sealed = Message(
        "assistant", (Thinking("", Seal("anthropic", "x" * 400), redacted=True), Text("so"))
    )
    plain = Message("assistant", (Text("so"),))
    openai, claude = ModelTokens("gpt-4o"), ModelTokens("claude-sonnet-4-5")
    assert openai.count_message(shown) == openai.count_message(plain)
    more = claude.count_message(shown) - claude.count_message(plain)
    assert more == claude.count_text(thoughts)
    assert claude.count_message(sealed) - claude.count_message(plain) == 100


@given(MODELS, MESSAGES, MESSAGES, st.data())
@settings(max_examples=60, deadline=None)
def test_incremental_is_the_same_as_from_scratch(
    model: str, first: list[Message], later: list[Message], data: st.DataObject
) -> None:
    """However a transcript grows, is cut, or is rebuilt from the same messages."""
    counter = ModelTokens(model)
    backing = list(first)
    for message in later:
        backing.append(message)
        start = data.draw(st.integers(0, len(backing)))
        stop = data.draw(st.integers(start, len(backing)))
        for messages in (
            Transcript(backing),
            Transcript(backing, start, stop),
            tuple(backing),
            list(reversed(backing)),
        ):
            request = LLMRequest(messages, system="be brief")
            again = LLMRequest(tuple(messages), system="be brief")
            assert counter.count_request(request) == ModelTokens(model).count_request(again)


def test_after_an_append_to_2000_messages_one_message_is_counted() -> None:
    """And none where nothing is new; nor where the same messages stand in another list."""
    counted: list[Message] = []

    def measure(message: Message) -> TokenEstimate:
        counted.append(message)
        return TokenEstimate(len(message.text), exact=True)

    backing = [Message.user(f"message {n}") for n in range(2000)]
    count = IncrementalCount(measure)
    before = count.total(Transcript(backing))
    assert len(counted) == 2000
    new = Message.user("one more")
    backing.append(new)
    after = count.total(Transcript(backing))
    assert counted[2000:] == [new]
    assert after.tokens == before.tokens + len("one more")
    count.total(Transcript(backing))
    count.total(list(backing[1000:]))
    assert len(counted) == 2001


def test_a_few_large_messages_are_forgotten_like_many_small_ones() -> None:
    """Images, files, and what tools gave back; the newest is kept however large it is."""
    counted: list[Message] = []

    def measure(message: Message) -> TokenEstimate:
        counted.append(message)
        return TokenEstimate(1, exact=True)

    large: list[Part] = [
        Image(bytes(600)),
        File(bytes(600)),
        Text("a" * 600),
        ToolResult("c", (Text("a" * 600),)),
    ]
    count = IncrementalCount(measure, size=500)
    for part in large:
        message = Message("user", (part,))
        first = Message.user("small")
        for each in (first, message, message, first):
            count.message(each)
    assert len(counted) == 3 * len(large)


def test_what_is_remembered_is_bounded() -> None:
    """Old messages and transcripts are forgotten, and counted again when they come back."""
    counted: list[Message] = []

    def measure(message: Message) -> TokenEstimate:
        counted.append(message)
        return TokenEstimate(1, exact=True)

    lists = [[Message.user(str(n))] for n in range(4)]
    count = IncrementalCount(measure, messages=2, transcripts=2)
    for backing in (*lists, *lists):
        assert count.total(Transcript(backing)).tokens == 1
    assert len(counted) == 8


def test_what_has_left_a_transcript_is_forgotten_with_it() -> None:
    """A conversation that is cut again and again keeps the counts of what is still there."""
    counted: list[Message] = []

    def measure(message: Message) -> TokenEstimate:
        counted.append(message)
        return TokenEstimate(1, exact=True)

    count = IncrementalCount(measure, transcripts=2)
    task, brought_up = Message.user("the task"), Message.user("brought up")
    left = [Message.user(f"left {n}") for n in range(3)]
    for each in left:
        assert count.total(Transcript([task, each], tail=(brought_up,))).tokens == 3
    assert counted == [task, left[0], brought_up, left[1], left[2], brought_up]
    for each in (task, *left, brought_up):
        count.message(each)
    assert counted[6:] == left[:1]


@given(st.lists(st.tuples(st.integers(-5, 10**9), st.integers(-5, 10**9)), max_size=40))
def test_a_calibration_is_bounded_and_survives_being_stored(pairs: list[tuple[int, int]]) -> None:
    """Whatever is reported, and it is not changed by what is observed later."""
    calibration = Calibration()
    for estimated, reported in pairs:
        known = msgspec.json.encode(calibration)
        later = calibration.observe("m", estimated, reported)
        assert msgspec.json.encode(calibration) == known
        calibration = later
        assert 0.25 <= calibration.factor("m") <= 4
    assert calibration.factor("another") == 1
    read = msgspec.json.decode(msgspec.json.encode(calibration), type=Calibration)
    assert math.isclose(read.factor("m"), calibration.factor("m"))


def test_outliers_do_not_move_a_calibration_but_a_new_truth_does() -> None:
    """A hidden prompt or two; then a provider that really counts otherwise."""
    calibration = Calibration()
    for reported in (120, 121, 119, 90_000, 120, 1):
        calibration = calibration.observe("m", 100, reported)
    assert calibration.factor("m") == pytest.approx(1.2, abs=0.01)
    for _ in range(8):
        calibration = calibration.observe("m", 100, 200)
    assert calibration.factor("m") == 2.0


def test_a_counter_learns_from_what_is_reported() -> None:
    """Estimates become right, though not for one observation alone; what is exact stays as it is;
    what says nothing teaches nothing."""
    request = LLMRequest([Message.user("word " * 500)])
    counter = ModelTokens("claude-sonnet-4-5")
    raw = counter.count_request(request).tokens
    counter.learn(request, Usage())
    assert counter.count_request(request).tokens == raw
    counter.learn(request, Usage(input_tokens=raw * 3 // 2))
    assert counter.count_request(request).tokens == raw
    for _ in range(2):
        counter.learn(request, Usage(input_tokens=raw * 3 // 2))
    assert counter.count_request(request).tokens == pytest.approx(raw * 1.5, abs=1)
    later = ModelTokens("claude-sonnet-4-5", calibration=counter.calibration)
    assert later.count_request(request) == counter.count_request(request)
    exact = ModelTokens("gpt-4o")
    assert exact.count_request(request).exact
    exact.learn(request, Usage(input_tokens=1))
    assert exact.calibration == Calibration()


def test_siblings_learn_together_and_count_the_same() -> None:
    """Each has its own messages; what a provider reports to one corrects the other."""
    request = LLMRequest(messages=(Message("user", (Text("hello " * 100),), id="m"),), system="Be.")
    first = ModelTokens("some-model", calibration=Calibration({"some-model": (1.5,)}))
    other = first.sibling()
    assert other.count_request(request) == first.count_request(request)
    first.learn(request, Usage(10_000, 1))
    assert other.calibration == first.calibration
    assert other.count_request(request) == first.count_request(request)


def test_another_vendors_text_is_counted_by_the_nearest_vocabulary() -> None:
    """It is no estimate from characters, and not exact either."""
    text = "The quick brown fox jumps over the lazy dog. " * 40
    own = ModelTokens("gpt-4o").count_text(text)
    for model, factor in (("gemini-2.5-flash", 1.0), ("claude-haiku-4-5", 1.11)):
        assert ModelTokens(model).count_text(text) == round(own * factor)
        assert not ModelTokens(model).count_request(LLMRequest([Message.user(text)])).exact


def test_a_model_may_count_otherwise_where_it_is_served() -> None:
    """Vertex counts neither seals nor the form of tools; a sibling knows it, too."""
    tool = ToolSpec("f", "Does.", {"type": "object", "properties": {}})
    call = ToolCall("c", "f", seal=Seal("gemini", "x" * 4900))
    history = [Message.user("go"), Message.assistant("", call), Message.tool("c", "done")]
    request = LLMRequest(history, tools=(tool,))
    gemini = ModelTokens("gemini-3-pro").count_request(request).tokens
    vertex = ModelTokens("gemini-3-pro", provider="vertex")
    assert gemini - 1000 > vertex.count_request(request).tokens
    assert vertex.sibling().count_request(request) == vertex.count_request(request)


def test_reasoning_counts_where_it_goes_back_for_the_sake_of_its_calls() -> None:
    """Many models forget what they thought once they have answered."""
    counter, call = ModelTokens("qwen3"), ToolCall("c", "f")
    thought = Thinking("deep thoughts " * 50)
    answered = Message("assistant", (thought, Text("so")))
    assert counter.count_message(answered) == counter.count_message(Message.assistant("so"))
    calling = Message("assistant", (thought, call))
    more = counter.count_message(calling) - counter.count_message(Message.assistant("", call))
    assert more == counter.count_text(thought.text)


@pytest.mark.parametrize("name", ["o200k_base", "cl100k_base"])
def test_recorded_text_for_openai_is_counted_as_tiktoken_counts_it(
    name: str, tmp_path: Path
) -> None:
    """Every text of every recorded request to a model of that vocabulary."""
    texts = openai_texts()[name]
    counter = ModelTokens("gpt-4o" if name == "o200k_base" else "gpt-3.5-turbo")
    assert len(texts) > 50
    counts = [counter.count_text(text) for text in texts]
    assert counts == as_tiktoken_counts(name, tmp_path, texts)


def test_counts_come_within_five_percent_of_what_vendors_reported(
    tell: Tell,
) -> None:
    """In the median of each vendor, as a session would count. Left aside is Hugging Face's router:
    the hosts behind it leave out tools and whole answers, and count what they have left."""
    rows = vendors()
    tell(f"{table(rows)}")
    judged = [row for row in rows if len(row.learnt) >= ENOUGH and row.name != "huggingface"]
    missed = {row.name: median(row.learnt) for row in judged if median(row.learnt) > 0.05}
    assert missed == {}
    assert len(judged) >= 15


def test_recorded_requests_have_the_tokens_that_openai_counted() -> None:
    """Plain text to the models that the recipe is about: all but a few that other servers answered
    under those names."""
    expected = {
        row["id"]: row["usage"]["prompt_tokens"]
        for row in read_jsonl(need_corpus("expected.dev.openai_chat.jsonl"))
        if row["ok"] and row["usage"]
    }
    counters: dict[str, ModelTokens] = {}
    seen, same = 0, 0
    for row in read_jsonl(need_corpus("dev.openai_chat.jsonl")):
        request = plain_request(row["request_body"]) if row["provider"] == "openai" else None
        if request is None or row["id"] not in expected:
            continue
        model = request.model or ""
        count = counters.setdefault(model, ModelTokens(model)).count_request(request)
        if count.exact:
            seen += 1
            same += count.tokens == expected[row["id"]]
    assert seen >= 200
    assert same / seen >= 0.97


def plain_request(body: object) -> LLMRequest | None:
    """A recorded request, if it is plain text and nothing else."""
    if not is_object(body) or {"tools", "functions", "response_format"} & set(body):
        return None
    messages: list[Message] = []
    for message in body["messages"]:
        if set(message) != {"role", "content"} or not isinstance(message["content"], str):
            return None
        messages.append(Message(message["role"], (Text(message["content"]),)))
    return LLMRequest(messages, model=body["model"])


def test_a_vocabulary_is_not_loaded_only_to_learn() -> None:
    """That would hold up the event loop at the end of an answer."""
    tool = ToolSpec("f", "does", {"type": "object"})
    request = LLMRequest([Message.user("hello")], tools=(tool,))
    counter = ModelTokens("gpt-4o")
    counter.learn(request, Usage(input_tokens=500))
    assert counter.calibration == Calibration()
    counter.count_request(request)
    for _ in range(3):
        counter.learn(request, Usage(input_tokens=500))
    assert counter.count_request(request).tokens > 100


@pytest.mark.anyio
async def test_a_vocabulary_is_loaded_off_the_event_loop() -> None:
    """On both event loops; a model without one has nothing to load."""
    for model in ("gpt-4o", "claude-sonnet-4-5"):
        counter = ModelTokens(model)
        await counter.load()
        assert counter.count_text("hello") > 0
