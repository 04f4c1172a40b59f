"""The counter for one model: exact where its vocabulary is here, else an estimate that learns."""

from __future__ import annotations

from collections import OrderedDict

from anyio import to_thread

from llm_client.tokens._measure import Measure, estimate_text
from llm_client.tokens.base import TokenEstimate
from llm_client.tokens.calibration import Calibration
from llm_client.tokens.families import family_of
from llm_client.tokens.incremental import IncrementalCount
from llm_client.tokens.vocabulary import count_encoded, load_vocabulary
from llm_client.types import LLMRequest, Message, ToolSpec, Usage

__all__ = ["ModelTokens"]

_KEPT = 64
_TRUST = 2


class _Shared:
    """What counters of one model have in common."""

    __slots__ = ("calibration", "ready", "systems", "tools")

    def __init__(self, calibration: Calibration, *, ready: bool) -> None:
        self.calibration = calibration
        self.ready = ready
        self.tools: OrderedDict[int, tuple[tuple[ToolSpec, ...], TokenEstimate]] = OrderedDict()
        self.systems: OrderedDict[str | None, TokenEstimate] = OrderedDict()


class ModelTokens:
    """A `TokenCounter` for one model.

    Text is counted with the model's vocabulary if it is one of OpenAI's, without a network; for
    other models it is estimated from its characters. Around text, and for tools, images, sound and
    files, the makers' published rules are followed as far as there are any. Estimates are corrected
    by what the provider reports (`learn`).

    A message is counted once, and of a `Transcript` that has grown only what is new. Not safe for
    concurrent use by several threads.

    Args:
        model: the model's name, as in a request.
        provider: who serves it, where that is known: not all count the same model alike.
        calibration: what has been learnt before.

    Attributes:
        model: the model's name.
    """

    def __init__(
        self, model: str, *, provider: str | None = None, calibration: Calibration | None = None
    ) -> None:
        self.model = model
        self._provider = provider
        self._family = family_of(model, provider)
        self._measure = Measure(self._family, self._text)
        self._messages = IncrementalCount(self._measure.message)
        self._shared = _Shared(calibration or Calibration(), ready=self._family.vocabulary is None)

    @property
    def calibration(self) -> Calibration:
        """What has been learnt so far, to be stored and passed to a later counter."""
        return self._shared.calibration

    def sibling(self) -> ModelTokens:
        """A counter for another conversation with the same model. It has messages of its own and
        shares all else: tools and system prompts are counted once, and what one learns, both know.
        """
        other = ModelTokens(self.model, provider=self._provider)
        other._shared = self._shared
        # Of one conversation there is the transcript as it is, and as it was before it was cut.
        other._messages = IncrementalCount(other._measure.message, transcripts=2)
        return other

    def __repr__(self) -> str:
        return f"ModelTokens({self.model!r})"

    async def load(self) -> None:
        """Loads the vocabulary in a thread, if the model has one.

        Raises:
            ConfigError: this installation is damaged.
        """
        if self._family.vocabulary is not None and not self._shared.ready:
            await to_thread.run_sync(load_vocabulary, self._family.vocabulary)
            self._shared.ready = True

    def count_text(self, text: str) -> int:
        """Tokens of `text` alone."""
        exact = self._family.own_vocabulary
        return self._corrected(TokenEstimate(self._text(text), exact)).tokens

    def count_message(self, message: Message, *, within: TokenEstimate | None = None) -> int:
        """Tokens of `message`, with what surrounds it on its way to the model. As a part of a
        prompt that was counted as `within`, it is corrected wherever that is."""
        raw = self._messages.message(message)
        exact = raw.exact and (within is None or within.exact)
        return self._corrected(TokenEstimate(raw.tokens, exact)).tokens

    def count_request(self, request: LLMRequest) -> TokenEstimate:
        """Tokens of the whole prompt. `exact` if it is plain text for a model whose maker has
        published all that is around it."""
        return self._corrected(self._raw(request))

    def learn(self, request: LLMRequest, usage: Usage) -> None:
        """Takes note of what the provider counted for `request`. A vocabulary is not loaded for
        that alone."""
        reported = usage.input_tokens
        if reported is None or not self._shared.ready:
            return
        raw = self._raw(request)
        if not raw.exact:
            learnt = self.calibration.observe(self.model, raw.tokens, reported)
            self._shared.calibration = learnt

    def _corrected(self, raw: TokenEstimate) -> TokenEstimate:
        if raw.exact:
            return raw
        # Rules for a family come near by themselves, so that one odd prompt must not mislead them.
        trust = 0 if self._family.vocabulary is None else _TRUST
        factor = self.calibration.factor(self.model, trust=trust)
        return TokenEstimate(round(raw.tokens * factor), raw.exact)

    def _raw(self, request: LLMRequest) -> TokenEstimate:
        return (
            self._system(request.system)
            + self._tool_set(request.tools)
            + self._measure.server_tools(request.server_tools)
            + self._measure.schema(request.output_schema)
            + self._messages.total(request.messages)
        )

    def _text(self, text: str) -> int:
        if self._family.vocabulary is None:
            return estimate_text(text)
        self._shared.ready = True
        count = count_encoded(load_vocabulary(self._family.vocabulary), text)
        return round(count * self._family.factor)

    def _system(self, system: str | None) -> TokenEstimate:
        known = self._shared.systems.get(system)
        if known is None:
            known = self._shared.systems[system] = self._measure.prompt(system)
            if len(self._shared.systems) > _KEPT:
                self._shared.systems.popitem(last=False)
        return known

    def _tool_set(self, tools: tuple[ToolSpec, ...]) -> TokenEstimate:
        # An entry holds the tools themselves, so that their id cannot pass to others.
        known = self._shared.tools.get(id(tools))
        if known is not None:
            return known[1]
        count = self._measure.tools(tools)
        self._shared.tools[id(tools)] = (tools, count)
        if len(self._shared.tools) > _KEPT:
            self._shared.tools.popitem(last=False)
        return count
