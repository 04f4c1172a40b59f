"""Everything that is needed to reach one model, in one value."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NoReturn
from urllib.parse import urlsplit

from llm_client._proxy import proxy_for
from llm_client.errors import ConfigError
from llm_client.providers import (
    PROVIDERS,
    Provider,
    provider_for_url,
    provider_named,
    split_model,
)
from llm_client.transport.base import SafeHeaders, checked_base_url, origin_of
from llm_client.transport.deadlines import Deadlines

__all__ = ["LLMProviderConfig"]

PREFIX = "POWER_LOOP_"
FALLBACK = "OPENAI_COMPAT_"
TARGET = ("BASE_URL", "API_KEY", "MODEL", "PROVIDER")
"""What says who is reached: all from one prefix, so that no key meets a foreign address."""


@dataclass(frozen=True, kw_only=True, repr=False)
class LLMProviderConfig:
    """A model, where it is reached, and with what. Its repr hides the key; it cannot be pickled.

    Attributes:
        model: the model's name as the provider knows it.
        provider: a name of `PROVIDERS`.
        base_url: the address below which requests go; by default the provider's own.
        api_key: the key; "" for a provider that needs none.
        timeouts: how long each phase of a request may take, in seconds.
        max_output_tokens: the output limit of requests that set none; None sends none.
        temperature: the temperature of requests that set none; None sends none.
        extra: parameters added to the body of every request.
        headers: headers added to every request.
        proxy: address of a proxy, None for a direct connection.
        max_connections: requests in flight at once; further ones wait.

    Raises:
        ConfigError: something is missing or wrong; names it all, never shows the key.
    """

    model: str
    provider: str = "openai"
    base_url: str | None = None
    api_key: str = ""
    timeouts: Deadlines = field(default_factory=Deadlines)
    max_output_tokens: int | None = None
    temperature: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    proxy: str | None = None
    max_connections: int = 1000
    providers: Mapping[str, Provider] = field(default_factory=lambda: PROVIDERS)

    def __post_init__(self) -> None:
        lacking = self._lacking(self.row)
        faults = dict(_misfits(self, lacking))
        checks = {("base_url",): self._settle_address, ("headers", "api_key"): self._settle_headers}
        for names, settle in checks.items():
            try:
                if not faults.keys() & names:
                    settle()
            except ConfigError as error:
                faults[names[0]] = error.message
        told = [f"it lacks {', '.join(lacking)}"] if lacking else []
        told += faults.values()
        if told:
            raise ConfigError(
                f"the configuration of provider {self.provider!r} cannot be used: {'; '.join(told)}"
            )

    def _lacking(self, row: Provider) -> list[str]:
        needed: dict[str, object] = {"model": self.model}
        if row.needs_key:
            needed["api_key"] = self.api_key
        if row.factory is None:
            needed["base_url"] = self.base_url or row.base_url
        return [name for name, value in needed.items() if _is_blank(value)]

    def _settle_address(self) -> None:
        row = self.row
        address = self.base_url or row.base_url
        if row.factory is None and address is not None:
            object.__setattr__(self, "base_url", checked_base_url(address))

    def _settle_headers(self) -> None:
        # A key that HTTP cannot carry should not wait for the first request.
        object.__setattr__(self, "headers", SafeHeaders(self.headers))
        _ = self.auth_headers()

    @property
    def row(self) -> Provider:
        """The provider's row of the table."""
        return provider_named(self.provider, self.providers)

    def auth_headers(self) -> SafeHeaders:
        """The headers of a request: the key's, and `headers`."""
        if not self.api_key:
            return SafeHeaders(self.headers)
        name = self.row.key_header
        key = self.api_key.strip()
        value = f"Bearer {key}" if name == "authorization" else key
        return SafeHeaders({name: value, **self.headers})

    def __repr__(self) -> str:
        shown = {
            "provider": self.provider,
            "model": self.model,
            "base_url": None if self.base_url is None else self.base_url.partition("?")[0],
            "api_key": "***" if self.api_key else "",
            "timeouts": self.timeouts,
            "max_output_tokens": self.max_output_tokens,
            "temperature": self.temperature,
            "extra": self.extra,
            "headers": self.headers,
            "proxy": None if self.proxy is None else origin_of(self.proxy),
        }
        return f"LLMProviderConfig({', '.join(f'{k}={v!r}' for k, v in shown.items())})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a configuration holds a key and is not pickled; read it with from_env()")

    @classmethod
    def from_env(
        cls,
        env: Mapping[str, str] | None = None,
        *,
        model: str | None = None,
        providers: Mapping[str, Provider] | None = None,
    ) -> LLMProviderConfig:
        """Reads a configuration from `env`, by default the process's environment.

        POWER_LOOP_ followed by BASE_URL, API_KEY, MODEL, PROVIDER, or if none of these four is set,
        OPENAI_COMPAT_ followed by the same. Of either prefix: TIMEOUT_S (seconds for a whole
        request), MAX_TOKENS and TEMPERATURE.

        A provider that is named, in PROVIDER or as in MODEL=openai:gpt-5, supplies its usual
        address, and its key may stand in its usual variable, such as OPENAI_API_KEY.

        `model`, a string such as "openai:gpt-5", names the provider instead. BASE_URL and API_KEY
        are then used if they are for that provider: if PROVIDER says so; without PROVIDER, if
        BASE_URL is not the usual address of another one; without both, if MODEL names it. So
        API_KEY is sent to BASE_URL or to the provider that the same variables name, nowhere else.

        Raises:
            ConfigError: variables are missing or wrong; names every one of them.
        """
        known = PROVIDERS if providers is None else providers
        return _Reader(os.environ if env is None else env, known).config(model)


_KINDS: Mapping[str, type] = MappingProxyType(
    {
        "model": str,
        "base_url": str,
        "api_key": str,
        "timeouts": Deadlines,
        "extra": Mapping,
        "headers": Mapping,
        "proxy": str,
    }
)
_MAY_BE_NONE = ("base_url", "max_output_tokens", "temperature", "proxy")


def _misfits(config: LLMProviderConfig, known: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each field of the wrong kind, apart from those `known` to be wrong, and what is said of it;
    values that may be secret are not shown."""
    for name in [name for name in _KINDS if name not in known]:
        value: object = getattr(config, name)
        if not isinstance(value, _KINDS[name]) and not (value is None and name in _MAY_BE_NONE):
            kind = _KINDS[name].__name__
            yield name, f"{name} must be of type {kind}, is a {type(value).__name__}"
    for name in ("max_output_tokens", "max_connections"):
        value = getattr(config, name)
        if not _is_count(value) and not (value is None and name in _MAY_BE_NONE):
            yield name, f"{name} must be a whole number from 1, is {value!r}"
    value = config.temperature
    if value is not None and not _is_number_from_0(value):
        yield "temperature", f"temperature must be a number from 0, is {value!r}"


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number_from_0(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


_Target = tuple[Provider, str | None, str, str]
"""Who is asked, where, with which key, and for which model."""


class _Reader:
    """One environment."""

    def __init__(self, env: Mapping[str, str], providers: Mapping[str, Provider]) -> None:
        self._env = env
        self._providers = providers
        newer, older = (
            any(self._read(prefix + name) for name in TARGET) for prefix in (PREFIX, FALLBACK)
        )
        self._prefix = FALLBACK if older and not newer else PREFIX
        self._faults: list[str] = []

    def config(self, model_string: str | None) -> LLMProviderConfig:
        try:
            target = self._target(model_string)
        except ConfigError as error:
            target = None
            self._faults.append(error.message)
        seconds = self.number("TIMEOUT_S", "a number of seconds over 0", least=1e-9)
        tokens = self.number("MAX_TOKENS", "a whole number from 1", least=1, whole=True)
        temperature = self.number("TEMPERATURE", "a number from 0", least=0)
        if target is None or self._faults:
            raise ConfigError("; ".join(self._faults))
        row, base_url, key, model = target
        return LLMProviderConfig(
            provider=row.name,
            base_url=base_url,
            api_key=key,
            model=model,
            timeouts=Deadlines() if seconds is None else Deadlines.within(seconds),
            max_output_tokens=None if tokens is None else int(tokens),
            temperature=temperature,
            proxy=None if base_url is None else proxy_for(base_url, self._env),
            providers=self._providers,
        )

    def _target(self, model_string: str | None) -> _Target:
        provider, model = self.get("PROVIDER"), self.get("MODEL")
        if model_string is not None:
            return self._named(*split_model(model_string, self._providers))
        if provider:
            return self._named(provider_named(provider.lower(), self._providers), model)
        row = self._named_by(model)
        if row is not None and (not self.get("BASE_URL") or self._meant_for(row)):
            return self._named(*split_model(model, self._providers))
        return self._addressed(model)

    def _named_by(self, model: str) -> Provider | None:
        name, colon, _ = model.partition(":")
        return self._providers.get(name.lower()) if colon else None

    def _meant_for(self, row: Provider) -> bool:
        """Whether the address and the key in the variables are for this provider."""
        provider, base_url = self.get("PROVIDER"), self.get("BASE_URL")
        if row.factory is not None:
            return False
        if provider:
            return provider.lower() == row.name
        if base_url:
            return self._may_serve(base_url, row)
        return self._named_by(self.get("MODEL")) is row

    def _may_serve(self, base_url: str, row: Provider) -> bool:
        """Whether an address is not known as that of other providers alone."""
        host = urlsplit(checked_base_url(base_url)).hostname
        there = [
            other.name
            for other in self._providers.values()
            if other.needs_key and other.base_url and urlsplit(other.base_url).hostname == host
        ]
        return not there or row.name in there or base_url == row.base_url

    def _named(self, row: Provider, model: str) -> _Target:
        ours = self._meant_for(row)
        base_url = (self.get("BASE_URL") if ours else "") or row.base_url
        key = self.get("API_KEY") if ours else ""
        if not key and (base_url is None or self._may_serve(base_url, row)):
            key = self._read(row.key_env or "")
        missing: list[str] = []
        if base_url is None and row.factory is None:
            missing.append(f"{self._prefix}BASE_URL (with {self._prefix}PROVIDER={row.name})")
        if not key and row.needs_key:
            missing.append(self._key_wanted(row, ours=ours))
        if not model:
            missing.append(f"{self._prefix}MODEL")
        self._miss(missing)
        return row, base_url, key, model

    def _key_wanted(self, row: Provider, *, ours: bool) -> str:
        """The variable that would give the key, and what else it would take."""
        general, naming = f"{self._prefix}API_KEY", f"{self._prefix}PROVIDER={row.name}"
        unused = not ours and bool(self.get("API_KEY"))
        if row.key_env is None:
            wanted = naming if unused else f"{general} with {naming}"
            return f"{wanted} (or give the provider a key_env, or needs_key=False)"
        if unused:
            return (
                f"{row.key_env} ({general} is not used: only {naming} would say that it is for "
                "this provider)"
            )
        return row.key_env

    def _addressed(self, model: str) -> _Target:
        values = {name: self.get(name) for name in ("BASE_URL", "API_KEY", "MODEL")}
        missing = [self._prefix + name for name, value in values.items() if not value]
        if missing:
            missing[-1] += f"; or name a provider in {self._prefix}PROVIDER"
            row = provider_named("compatible", self._providers)
        else:
            row = provider_for_url(checked_base_url(values["BASE_URL"]), self._providers)
        self._miss(missing)
        return row, values["BASE_URL"], values["API_KEY"], model

    def _miss(self, missing: Sequence[str]) -> None:
        if not missing:
            return
        told = f"missing in the environment: {', '.join(missing)}"
        if any(name.startswith((PREFIX, FALLBACK)) for name in missing):
            told += (
                f" (the same variables beginning with {FALLBACK} are read if none of them is "
                f"set that begins with {PREFIX})"
            )
        self._faults.append(told)

    def get(self, name: str) -> str:
        return self._read(self._prefix + name)

    def _read(self, variable: str) -> str:
        return self._env.get(variable, "").strip()

    def number(self, name: str, what: str, *, least: float, whole: bool = False) -> float | None:
        """The number in a variable of either prefix; a wrong one is kept among the faults."""
        found = [variable for variable in (PREFIX + name, FALLBACK + name) if self._read(variable)]
        if not found:
            return None
        text = self._read(found[0])
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value < math.inf or (whole and not value.is_integer()):
            self._faults.append(f"{found[0]} must be {what}, is {text!r}")
        return value
