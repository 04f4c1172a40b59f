"""From a name or an environment to a service; what is missing is named, and no key is shown."""

from __future__ import annotations

import copy
import pickle
import pydoc
import re
import traceback
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from llm_client._proxy import proxy_for
from llm_client.codecs import anthropic
from llm_client.codecs import openai_responses as responses
from llm_client.codecs.openai_chat import DIALECTS
from llm_client.config import LLMProviderConfig
from llm_client.errors import ConfigError
from llm_client.protocols import PROTOCOLS
from llm_client.providers import PROVIDERS, Provider, split_model
from llm_client.registry import (
    create_llm_service,
    create_llm_service_from_config,
    create_llm_service_from_env,
)
from llm_client.service import LLMService
from llm_client.testing import ScriptedLLM
from llm_client.transport.deadlines import Deadlines

CANARY = "sk-canary-7f3a9b2c5d"
FULL = {
    "POWER_LOOP_BASE_URL": "https://llm.example.com/v1",
    "POWER_LOOP_API_KEY": CANARY,
    "POWER_LOOP_MODEL": "m-1",
}
OLDER = {name.replace("POWER_LOOP", "OPENAI_COMPAT"): value for name, value in FULL.items()}


def make_scripted(model: str) -> LLMService:
    """What a provider's factory is: found by its name, called with the model's."""
    return ScriptedLLM("made", model=model)


def refusal(env: dict[str, str], model: str | None = None) -> str:
    """Why the environment is refused."""
    with pytest.raises(ConfigError) as caught:
        LLMProviderConfig.from_env(env, model=model)
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert CANARY not in caught.value.message
    assert told
    return caught.value.message


# ── the environment ───────────────────────────────────────────────────────────────────────────────


def test_the_environment_gives_address_key_and_model() -> None:
    """An address that no known provider has speaks the common part of the protocol."""
    config = LLMProviderConfig.from_env(FULL)
    assert (config.provider, config.base_url) == ("compatible", "https://llm.example.com/v1")
    assert (config.api_key, config.model) == (CANARY, "m-1")
    assert config.timeouts == Deadlines()
    assert (config.max_output_tokens, config.temperature) == (None, None)


def test_the_older_names_are_read_where_no_newer_one_is_set() -> None:
    """All or none: a blank newer one counts as not set."""
    assert LLMProviderConfig.from_env(OLDER).model == "m-1"
    blank = {**OLDER, "POWER_LOOP_API_KEY": " ", "POWER_LOOP_PROVIDER": ""}
    assert LLMProviderConfig.from_env(blank).api_key == CANARY
    newer = {**{name: value + "x" for name, value in FULL.items()}, **OLDER}
    assert LLMProviderConfig.from_env(newer).model == "m-1x"


@pytest.mark.parametrize("name", ["BASE_URL", "API_KEY", "MODEL", "PROVIDER"])
def test_variables_of_both_families_are_never_mixed(name: str) -> None:
    """A key beside the one address is not sent to the other; what is missing is named."""
    value = "vllm" if name == "PROVIDER" else FULL[f"POWER_LOOP_{name}"]
    message = refusal({**OLDER, f"POWER_LOOP_{name}": value})
    assert f"POWER_LOOP_{'API_KEY' if name == 'MODEL' else 'MODEL'}" in message
    assert "beginning with OPENAI_COMPAT_ are read if none of them is set" in message
    older = refusal({key: text for key, text in OLDER.items() if "MODEL" not in key})
    assert "missing in the environment: OPENAI_COMPAT_MODEL" in older


def test_limits_are_read_as_numbers() -> None:
    """The time bounds every phase of a request."""
    config = LLMProviderConfig.from_env(
        {
            **FULL,
            "POWER_LOOP_TIMEOUT_S": "45",
            "POWER_LOOP_MAX_TOKENS": "1000",
            "OPENAI_COMPAT_TEMPERATURE": "0",
        }
    )
    assert config.timeouts == Deadlines.within(45)
    assert (config.max_output_tokens, config.temperature) == (1000, 0.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TIMEOUT_S", "soon"),
        ("TIMEOUT_S", "0"),
        ("TIMEOUT_S", "inf"),
        ("MAX_TOKENS", "-1"),
        ("TEMPERATURE", "nan"),
        ("TEMPERATURE", "-0.5"),
    ],
)
def test_a_number_that_makes_no_sense_is_named_with_its_value(name: str, value: str) -> None:
    """By the variable it stands in."""
    message = refusal({**FULL, f"POWER_LOOP_{name}": value})
    assert f"POWER_LOOP_{name}" in message
    assert repr(value) in message


def test_what_is_wrong_is_named_together_with_what_is_missing() -> None:
    """One attempt is enough to mend it all; each number with what it should be."""
    wrong = {
        "POWER_LOOP_TIMEOUT_S": "abc",
        "OPENAI_COMPAT_MAX_TOKENS": "2.5",
        "POWER_LOOP_TEMPERATURE": "hot",
    }
    told = (
        "POWER_LOOP_TIMEOUT_S must be a number of seconds over 0, is 'abc'",
        "OPENAI_COMPAT_MAX_TOKENS must be a whole number from 1, is '2.5'",
        "POWER_LOOP_TEMPERATURE must be a number from 0, is 'hot'",
    )
    asked = (("openai:gpt-5", "OPENAI_API_KEY"), ("nobody:x", "unknown provider"), (None, "MODEL"))
    for model, besides in asked:
        message = refusal(wrong, model=model)
        assert all(each in message for each in (*told, besides))


def test_a_provider_of_one_s_own_says_where_its_key_may_stand() -> None:
    """In one step: whoever sets what is named is served."""
    mine = Provider(name="mine", base_url="https://own.example")
    env: dict[str, str] = {}
    for told, variable in (
        ("POWER_LOOP_API_KEY with POWER_LOOP_PROVIDER=mine", "POWER_LOOP_API_KEY"),
        ("environment: POWER_LOOP_PROVIDER=mine", "POWER_LOOP_PROVIDER"),
    ):
        with pytest.raises(ConfigError, match=told) as caught:
            create_llm_service("mine:m", env=env, providers={"mine": mine})
        assert "needs_key=False" in caught.value.message
        env[variable] = "mine"
    assert create_llm_service("mine:m", env=env, providers={"mine": mine}).model == "m"


def test_everything_that_is_missing_is_named_at_once() -> None:
    """So that one attempt is enough to mend it."""
    message = refusal({})
    for name in ("BASE_URL", "API_KEY", "MODEL"):
        assert f"POWER_LOOP_{name}" in message
    assert "POWER_LOOP_PROVIDER" in message
    assert "OPENAI_COMPAT_" in message
    message = refusal({name: value for name, value in FULL.items() if "KEY" not in name})
    assert "POWER_LOOP_API_KEY" in message
    assert "BASE_URL" not in message


def test_a_named_provider_supplies_its_address_and_the_name_of_its_key() -> None:
    """Then only the model is needed besides."""
    env = {
        "POWER_LOOP_PROVIDER": "DeepSeek",
        "POWER_LOOP_MODEL": "deepseek-chat",
        "DEEPSEEK_API_KEY": CANARY,
    }
    config = LLMProviderConfig.from_env(env)
    assert (config.provider, config.base_url) == ("deepseek", "https://api.deepseek.com")
    assert config.api_key == CANARY
    assert "DEEPSEEK_API_KEY" in refusal({"POWER_LOOP_PROVIDER": "deepseek"})
    azure = refusal({"POWER_LOOP_PROVIDER": "azure"})
    assert "POWER_LOOP_BASE_URL" in azure
    assert "AZURE_OPENAI_API_KEY" in azure


def test_an_address_that_is_known_brings_its_dialect() -> None:
    """Whoever sets only the address still speaks to DeepSeek as DeepSeek wants it."""
    config = LLMProviderConfig.from_env(
        {**FULL, "POWER_LOOP_BASE_URL": "https://api.deepseek.com/v1/"}
    )
    assert (config.provider, config.base_url) == ("deepseek", "https://api.deepseek.com/v1")


def test_a_model_string_names_its_provider() -> None:
    """In a call as in the variable, and the settings of another provider are not used for it."""
    other = {**FULL, "POWER_LOOP_PROVIDER": "deepseek", "OPENAI_API_KEY": "sk-openai-own"}
    config = LLMProviderConfig.from_env(other, model="openai:gpt-5")
    assert (config.provider, config.model) == ("openai", "gpt-5")
    assert (config.base_url, config.api_key) == ("https://api.openai.com/v1", "sk-openai-own")
    own = LLMProviderConfig.from_env(other, model="deepseek:v3")
    assert (own.base_url, own.api_key) == ("https://llm.example.com/v1", CANARY)
    alone = {"POWER_LOOP_MODEL": "groq:llama-3:8b", "GROQ_API_KEY": CANARY}
    assert LLMProviderConfig.from_env(alone).model == "llama-3:8b"


def test_an_address_without_a_provider_is_for_any_that_a_model_string_names() -> None:
    """A gateway, or a server of one's own; its key is the one beside it, or the provider's."""
    gateway = {"POWER_LOOP_BASE_URL": "https://llm.example.com/v1", "OPENAI_API_KEY": "sk-openai"}
    config = LLMProviderConfig.from_env(gateway, model="openai:gpt-5")
    assert (config.provider, config.base_url) == ("openai", "https://llm.example.com/v1")
    assert config.api_key == "sk-openai"
    config = LLMProviderConfig.from_env({**gateway, **FULL}, model="openai:gpt-5")
    assert (config.base_url, config.api_key) == ("https://llm.example.com/v1", CANARY)
    config = LLMProviderConfig.from_env({**gateway, "POWER_LOOP_MODEL": "OpenAI:gpt-5"})
    assert (config.provider, config.model, config.api_key) == ("openai", "gpt-5", "sk-openai")
    own = {"POWER_LOOP_BASE_URL": "http://127.0.0.1:8000/v1", "OPENAI_API_KEY": "k"}
    config = LLMProviderConfig.from_env(own, model="openai:gpt-5")
    assert config.base_url == "http://127.0.0.1:8000/v1"
    assert LLMProviderConfig.from_env({**FULL}, model="local:smollm2").api_key == ""


def test_the_address_of_one_provider_is_not_used_for_another() -> None:
    """Nor its key; whoever means it says so in PROVIDER."""
    deepseek = {**FULL, "POWER_LOOP_BASE_URL": "https://API.deepseek.com:443/beta"}
    message = refusal(deepseek, model="openai:gpt-5")
    assert "OPENAI_API_KEY" in message
    assert "only POWER_LOOP_PROVIDER=openai would say" in message
    config = LLMProviderConfig.from_env({**deepseek, "OPENAI_API_KEY": "o"}, model="openai:gpt-5")
    assert (config.base_url, config.api_key) == ("https://api.openai.com/v1", "o")
    config = LLMProviderConfig.from_env(deepseek, model="deepseek:v3")
    assert (config.base_url, config.api_key) == ("https://API.deepseek.com:443/beta", CANARY)
    forced = {**deepseek, "POWER_LOOP_PROVIDER": "openai"}
    config = LLMProviderConfig.from_env(forced, model="openai:gpt-5")
    assert (config.base_url, config.api_key) == ("https://API.deepseek.com:443/beta", CANARY)
    del forced["POWER_LOOP_API_KEY"]
    assert "OPENAI_API_KEY" in refusal({**forced, "OPENAI_API_KEY": "o"}, model="openai:gpt-5")


def test_a_key_without_an_address_is_for_the_provider_named_beside_it() -> None:
    """By PROVIDER or by MODEL; if by neither, it is not sent to anybody."""
    key = {"POWER_LOOP_API_KEY": CANARY}
    named = {**key, "POWER_LOOP_MODEL": "groq:llama"}
    config = LLMProviderConfig.from_env(named)
    assert (config.base_url, config.api_key) == ("https://api.groq.com/openai/v1", CANARY)
    assert LLMProviderConfig.from_env(named, model="groq:other").api_key == CANARY
    for env in (key, named):
        message = refusal(env, model="openai:gpt-5")
        assert "POWER_LOOP_API_KEY is not used" in message


KEYS = {row.key_env: row for row in PROVIDERS.values() if row.key_env and row.needs_key}
ADDRESSES = ("https://own.example/v1", "https://api.deepseek.com", "http://127.0.0.1:8000/v1")


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            [f"{p}_{n}" for p in ("POWER_LOOP", "OPENAI_COMPAT") for n in ("API_KEY", "MODEL")]
            + ["OPENAI_API_KEY", "DEEPSEEK_API_KEY"]
        ),
        st.just("set"),
    ),
    st.dictionaries(
        st.sampled_from(["POWER_LOOP_BASE_URL", "OPENAI_COMPAT_BASE_URL"]),
        st.sampled_from(ADDRESSES),
    ),
    st.dictionaries(
        st.sampled_from(["POWER_LOOP_PROVIDER", "OPENAI_COMPAT_PROVIDER"]),
        st.sampled_from(["openai", "deepseek", "vllm"]),
    ),
    st.sampled_from([None, "openai:m", "deepseek:m", "vllm:m", "compatible:m"]),
)
def test_no_key_ever_meets_an_address_it_was_not_set_for(
    values: dict[str, str],
    addresses: dict[str, str],
    provider: dict[str, str],
    model: str | None,
) -> None:
    """Each key carries the name of its variable; the address that gets it must belong to it."""
    env = {**values, **addresses, **provider}
    env |= {name: name for name in env if name.endswith("API_KEY")}
    try:
        config = LLMProviderConfig.from_env(env, model=model)
    except ConfigError:
        return
    if not config.api_key:
        return
    family = config.api_key.removesuffix("_API_KEY")
    if config.api_key in KEYS:
        usual = KEYS[config.api_key].base_url
        given_address = config.base_url in addresses.values()
        assert config.row.key_env == config.api_key
        assert config.base_url == usual or given_address
        assert config.base_url != ADDRESSES[1] or config.provider == "deepseek"
    elif f"{family}_BASE_URL" in env and config.base_url == env[f"{family}_BASE_URL"]:
        assert family == "POWER_LOOP" or not any(k.startswith("POWER_LOOP") for k in env)
    else:
        assert f"{family}_BASE_URL" not in env
        assert env[f"{family}_PROVIDER"] == config.provider


@pytest.mark.parametrize("model", ["gpt-5", "openai:", ":gpt-5", "nobody:x", ""])
def test_a_model_string_that_means_nothing_lists_what_exists(model: str) -> None:
    """The form, and every provider."""
    message = refusal({}, model=model)
    for name in PROVIDERS:
        assert name in message


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_model_string_is_understood_or_refused_with_a_typed_error(text: str) -> None:
    """No other exception, whatever is typed."""
    try:
        row, model = split_model(text)
    except ConfigError:
        return
    assert row.name in PROVIDERS
    assert model


# ── the configuration ─────────────────────────────────────────────────────────────────────────────


def test_a_configuration_never_shows_its_key() -> None:
    """Not in its repr, its service's, an error about it, a pickle or a copy (Z10)."""
    config = LLMProviderConfig.from_env(FULL)
    service = create_llm_service_from_config(config)
    told = repr(config) + str(config) + repr(service) + f"{config.auth_headers()}"
    assert CANARY not in told
    assert "***" in repr(config)
    for spread in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="from_env"):
            spread(config)
    with pytest.raises(ConfigError) as caught:
        LLMProviderConfig(model="m", api_key=f"{CANARY}\nx")
    assert CANARY not in str(caught.value)


def test_a_configuration_shows_no_secret_of_its_address_or_proxy() -> None:
    """Which may hold some in their query or before the host."""
    config = LLMProviderConfig(
        model="m",
        provider="vllm",
        base_url="https://x.example/v1?key=hidden-a",
        proxy="http://user:hidden-b@proxy.example:3128",
        headers={"x-api-key": "hidden-c"},
    )
    assert "hidden" not in repr(config)
    assert "proxy.example:3128" in repr(config)


def test_what_a_configuration_lacks_is_named() -> None:
    """All of it."""
    with pytest.raises(ConfigError, match="lacks model, api_key, base_url"):
        LLMProviderConfig(model="", provider="azure", providers={"azure": Provider(name="azure")})
    with pytest.raises(ConfigError, match="unknown provider 'nobody'"):
        LLMProviderConfig(model="m", provider="nobody")
    with pytest.raises(ConfigError, match="max_output_tokens"):
        LLMProviderConfig(model="m", provider="vllm", max_output_tokens=0)
    with pytest.raises(ConfigError, match="temperature"):
        LLMProviderConfig(model="m", provider="vllm", temperature=-1)
    with pytest.raises(ConfigError, match="http://"):
        LLMProviderConfig(model="m", provider="vllm", base_url="localhost:8000")


@pytest.mark.parametrize("model", [None, "", 5])
def test_a_configuration_names_every_value_that_cannot_be(model: object) -> None:
    """Whatever was passed, at once, and without a value that could be secret."""
    wrong: dict[str, Any] = {
        "model": model,
        "api_key": None,
        "base_url": 7,
        "temperature": "hot",
        "timeouts": 5,
        "max_output_tokens": True,
        "max_connections": 0,
        "extra": 1,
        "headers": [CANARY],
        "proxy": b"http://x",
    }
    with pytest.raises(ConfigError, match="lacks") as caught:
        LLMProviderConfig(**wrong)
    told = caught.value.message
    assert all(name in told for name in wrong)
    assert "temperature must be a number from 0, is 'hot'" in told
    assert "timeouts must be of type Deadlines, is a int" in told
    assert CANARY not in told
    with pytest.raises(ConfigError, match=r"temperature must.*begin with http.*header 'x'"):
        LLMProviderConfig(
            model="m", provider="vllm", temperature=-1, base_url="ftp://x", headers={"x": "a\nb"}
        )


@pytest.mark.parametrize("value", ["5", None, float("nan"), 0, -1])
def test_a_deadline_that_is_no_positive_number_is_refused(value: Any) -> None:
    """Before anything waits for it."""
    with pytest.raises(ConfigError, match="'total' must be a positive number"):
        Deadlines(total=value)


def test_headers_that_are_no_texts_are_refused() -> None:
    """By name; their values may be secret."""
    headers: dict[str, Any] = {"x-key": CANARY.encode()}
    with pytest.raises(ConfigError, match="header 'x-key' must be a text") as caught:
        LLMProviderConfig(model="m", provider="vllm", headers=headers)
    assert CANARY not in caught.value.message


def test_the_key_goes_into_the_header_that_the_provider_reads() -> None:
    """A bearer token, except where the provider has a header of its own."""
    usual = LLMProviderConfig(model="m", api_key="k")
    assert usual.auth_headers()["authorization"] == "Bearer k"
    azure = LLMProviderConfig(model="m", provider="azure", base_url="https://x", api_key="k")
    assert dict(azure.auth_headers()) == {"api-key": "k"}
    assert dict(LLMProviderConfig(model="m", provider="vllm").auth_headers()) == {}


# ── services ──────────────────────────────────────────────────────────────────────────────────────


def test_every_provider_of_the_table_makes_a_service_that_does_not_retry() -> None:
    """With a key where one is needed, and an address where there is no usual one."""
    for row in PROVIDERS.values():
        if row.factory is not None:
            continue
        config = LLMProviderConfig(
            model="m",
            provider=row.name,
            api_key="k" if row.needs_key else "",
            base_url=row.base_url or "https://own.example/v1",
        )
        service = create_llm_service_from_config(config)
        assert (service.model, service.retries) == ("m", False)
        assert row.name in repr(service)


def test_the_table_names_dialects_that_exist() -> None:
    """A typing error there would silently fall back to the common protocol."""
    known = {
        "openai_chat": DIALECTS.keys(),
        "openai_responses": responses.DIALECTS.keys(),
        "anthropic_messages": anthropic.DIALECTS.keys() | {"compatible"},
        "gemini": {"gemini", "vertex"},
        "cohere_chat": {"cohere"},
        "ollama_native": {"ollama-native"},
    }
    assert known.keys() == PROTOCOLS.keys()
    for row in PROVIDERS.values():
        if row.factory is None:
            assert (row.dialect or row.name) in known[row.protocol], row.name


def test_a_protocol_of_one_s_own_is_named_by_its_place() -> None:
    """And one that does not exist lists those that do."""
    mine = Provider(
        name="mine",
        base_url="https://own.example",
        needs_key=False,
        protocol="llm_client.codecs.cohere:cohere_codec",
    )
    service = create_llm_service("mine:m", env={}, providers={"mine": mine})
    assert repr(service) == "HttpLLMService(mine at https://own.example, model 'm')"
    wrong = structs.replace(mine, protocol="smoke_signals")
    with pytest.raises(ConfigError, match="anthropic_messages"):
        create_llm_service("mine:m", env={}, providers={"mine": wrong})


@pytest.mark.parametrize("attribute", ["protocol", "factory"])
@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("nope:x", "no module 'nope'"),
        ("llm_client.nope.deeper:x", "no module 'llm_client.nope.deeper'"),
        ("llm_client.codecs.cohere:nope", "has no such function"),
        (":x", "expected 'module:function'"),
        ("..codecs:x", "expected 'module:function'"),
        ("llm_client:", "expected 'module:function'"),
    ],
)
def test_a_place_that_holds_no_function_is_refused(attribute: str, place: str, told: str) -> None:
    """For codecs and factories of one's own, with the place as it was given."""
    row = Provider(name="mine", base_url="https://own.example", needs_key=False)
    mine = structs.replace(row, **{attribute: place})
    with pytest.raises(ConfigError, match=re.escape(told)):
        create_llm_service("mine:m", env={}, providers={"mine": mine})


def test_a_service_comes_straight_from_a_model_string_or_the_environment() -> None:
    """The two short forms."""
    service = create_llm_service("mistral:large", env={"MISTRAL_API_KEY": "k"})
    assert repr(service) == "HttpLLMService(mistral at https://api.mistral.ai, model 'large')"
    assert create_llm_service_from_env(FULL).model == "m-1"
    with pytest.raises(ConfigError, match="MISTRAL_API_KEY"):
        create_llm_service("mistral:large", env={})


def test_a_provider_that_is_not_reached_over_http_is_loaded_when_it_is_asked_for() -> None:
    """By the name in its row, with what stands after the colon."""
    mine = Provider(name="mine", needs_key=False, factory=f"{__name__}:make_scripted")
    service = create_llm_service("mine:small", env={}, providers={**PROVIDERS, "mine": mine})
    assert service.model == "small"
    gone = Provider(name="mine", needs_key=False, factory="llm_client.not_there:make")
    with pytest.raises(ConfigError, match="no module 'llm_client"):
        create_llm_service("mine:small", env={}, providers={"mine": gone})


@pytest.mark.parametrize("asked", [create_llm_service, LLMProviderConfig, split_model])
def test_help_does_not_print_the_table_of_providers(asked: object) -> None:
    """It is longer than all that it says."""
    assert "base_url='" not in pydoc.plain(pydoc.render_doc(asked))


# ── proxies ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("url", "env", "proxy"),
    [
        ("https://a.example/v1", {}, None),
        ("https://a.example/v1", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https://a.example/v1", {"https_proxy": "p:1"}, "http://p:1"),
        ("https://a.example/v1", {"HTTP_PROXY": "http://p:1"}, None),
        ("https://a.example/v1", {"ALL_PROXY": "socks://p:1"}, "socks5://p:1"),
        ("https://a.example/v1", {"ALL_PROXY": "p:1", "NO_PROXY": "b.example, a.example"}, None),
        ("https://a.example/v1", {"ALL_PROXY": "p:1", "NO_PROXY": ".example"}, None),
        ("https://a.example/v1", {"ALL_PROXY": "p:1", "NO_PROXY": "xample"}, "http://p:1"),
        ("https://a.example/v1", {"ALL_PROXY": "p:1", "NO_PROXY": "*"}, None),
        ("http://127.0.0.1:8000/v1", {"HTTP_PROXY": "http://p:1"}, None),
        ("http://localhost/v1", {"ALL_PROXY": "http://p:1"}, None),
    ],
)
def test_the_environment_s_proxy_is_used_by_the_usual_conventions(
    url: str, env: dict[str, str], proxy: str | None
) -> None:
    """And never for the own machine."""
    assert proxy_for(url, env) == proxy


def test_a_proxy_of_an_unsupported_kind_is_refused_when_the_service_is_made() -> None:
    """With what would be supported."""
    config = LLMProviderConfig(model="m", provider="vllm", proxy="ftp://p:1")
    with pytest.raises(ConfigError, match="socks5"):
        create_llm_service_from_config(config)
