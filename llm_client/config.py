"""Everything that is needed to reach one model, in one value."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

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
        row = self.row
        missing = [] if self.model.strip() else ["model"]
        if row.needs_key and not self.api_key.strip():
            missing.append("api_key")
        if row.factory is None and not (self.base_url or row.base_url):
            missing.append("base_url")
        if missing:
            raise ConfigError(
                f"the configuration of provider {self.provider!r} lacks {', '.join(missing)}"
            )
        if row.factory is None:
            address = checked_base_url(self.base_url or row.base_url or "")
            object.__setattr__(self, "base_url", address)
        if self.max_output_tokens is not None and self.max_output_tokens < 1:
            raise ConfigError(f"max_output_tokens must be positive, not {self.max_output_tokens}")
        if self.temperature is not None and not 0 <= self.temperature < math.inf:
            raise ConfigError(f"temperature must be 0 or more, not {self.temperature}")
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
        providers: Mapping[str, Provider] = PROVIDERS,
    ) -> LLMProviderConfig:
        """Reads a configuration from `env`, by default the process's environment.

        POWER_LOOP_ or else OPENAI_COMPAT_ followed by BASE_URL, API_KEY, MODEL, PROVIDER, TIMEOUT_S
        (seconds for a whole request), MAX_TOKENS and TEMPERATURE. A provider that is named supplies
        its usual address, and its key may stand in its usual variable, such as DEEPSEEK_API_KEY.

        With `model`, a string such as "openai:gpt-5", that provider is used; address and key are
        taken from the variables above only if they name the same provider.

        Raises:
            ConfigError: variables are missing or wrong; names every one of them.
        """
        return _Reader(os.environ if env is None else env, providers).config(model)


class _Reader:
    """One environment."""

    def __init__(self, env: Mapping[str, str], providers: Mapping[str, Provider]) -> None:
        self._env = env
        self._providers = providers

    def config(self, model_string: str | None) -> LLMProviderConfig:
        provider, model = self.get("PROVIDER"), self.get("MODEL")
        if model_string is None and not provider and not self.get("BASE_URL"):
            prefix, colon, _ = model.partition(":")
            if colon and prefix in self._providers:
                model_string = model
        if model_string is not None:
            row, model = split_model(model_string, self._providers)
            return self._named(row, model, own=provider.lower() == row.name)
        if provider:
            return self._named(provider_named(provider.lower(), self._providers), model, own=True)
        return self._addressed(model)

    def _named(self, row: Provider, model: str, *, own: bool) -> LLMProviderConfig:
        base_url = (self.get("BASE_URL") if own else "") or row.base_url
        key = self.get("API_KEY") if own else ""
        if not key and row.key_env is not None:
            key = self._env.get(row.key_env, "").strip()
        missing: list[str] = []
        if base_url is None and row.factory is None:
            missing.append(f"{_either('BASE_URL')} (with {PREFIX}PROVIDER={row.name})")
        if not key and row.needs_key:
            missing.append(row.key_env or _either("API_KEY"))
        if not model:
            missing.append(_either("MODEL"))
        return self._finish(missing, row, base_url, key, model)

    def _addressed(self, model: str) -> LLMProviderConfig:
        values = {name: self.get(name) for name in ("BASE_URL", "API_KEY", "MODEL")}
        missing = [_either(name) for name, value in values.items() if not value]
        if missing:
            missing[-1] += f"; or name a provider in {PREFIX}PROVIDER"
            row = provider_named("compatible", self._providers)
        else:
            row = provider_for_url(checked_base_url(values["BASE_URL"]), self._providers)
        return self._finish(missing, row, values["BASE_URL"], values["API_KEY"], model)

    def _finish(
        self, missing: list[str], row: Provider, base_url: str | None, key: str, model: str
    ) -> LLMProviderConfig:
        if missing:
            raise ConfigError(f"missing in the environment: {', '.join(missing)}")
        timeout = self.number("TIMEOUT_S")
        tokens = self.number("MAX_TOKENS")
        return LLMProviderConfig(
            provider=row.name,
            base_url=base_url,
            api_key=key,
            model=model,
            timeouts=Deadlines() if timeout is None else Deadlines.within(timeout),
            max_output_tokens=None if tokens is None else int(tokens),
            temperature=self.number("TEMPERATURE", least=0.0),
            proxy=None if base_url is None else proxy_for(base_url, self._env),
            providers=self._providers,
        )

    def get(self, name: str) -> str:
        found = self._env.get(PREFIX + name, "").strip()
        return found or self._env.get(FALLBACK + name, "").strip()

    def number(self, name: str, *, least: float = 1e-9) -> float | None:
        text = self.get(name)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value < math.inf:
            raise ConfigError(
                f"{_either(name)} must be a number of at least {least:g}, is {text!r}"
            )
        return value


def _either(name: str) -> str:
    return f"{PREFIX}{name} (or {FALLBACK}{name})"
