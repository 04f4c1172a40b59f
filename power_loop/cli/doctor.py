"""`doctor`: what is installed, which provider answers, which model is cached."""

from __future__ import annotations

import hashlib
import platform
from argparse import Namespace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType

import anyio
import anyio.to_thread

from llm_client.errors import LLMError
from llm_client.local import LOCAL_MODELS, LocalModel, LocalSettings, cached_weights
from llm_client.probing import probe
from llm_client.service import LLMService
from llm_client.types import LLMRequest, Message
from power_loop.cli.settings import CliSettings
from power_loop.cli.timeline import counted
from power_loop.errors import PowerLoopError
from power_loop.runtime.stores.base import EVERY_SESSION, Store
from power_loop.runtime.stores.pruning import all_sessions

__all__ = ["doctor"]

_PACKAGES = {
    "anyio": "core",
    "httpcore": "core",
    "msgspec": "core",
    "pydantic": "core",
    "regex": "core",
    "sniffio": "core",
    "tiktoken": "core",
    "rich": "extra cli: live display",
    "xllamacpp": "extra local: the embedded model",
    "aiohttp": "extra fast: the quicker transport",
    "genai-prices": "extra prices: what calls cost",
    "psycopg": "extra postgres: sessions on a PostgreSQL server",
}
_PROBE_SECONDS = 20
_MISSING = "not installed"
_REMEDIES = MappingProxyType(
    {
        "balance": "the account has no money or quota left",
        "auth": "the key is missing, wrong or revoked",
        "forbidden": "the key may not use this model",
        "model_missing": "the provider has no such model, or the key cannot see it",
    }
)
_MEGABYTE = 1_000_000


async def doctor(args: Namespace, store: Store) -> int:
    """`doctor`: exit status 1 if something that is set up does not work."""
    print(f"power-loop  {_version('power-loop')}, Python {platform.python_version()}")
    for package, purpose in _PACKAGES.items():
        print(f"  {package:<10} {_version(package):<14} {purpose}")
    stored = await _check_store(args, store)
    sound = await _check_weights()
    _tell_keys(args.settings)
    answers = await _check_model(args)
    return 0 if stored and sound and answers else 1


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return _MISSING


async def _check_store(args: Namespace, store: Store) -> bool:
    try:
        sessions = await all_sessions(store, EVERY_SESSION)
    except PowerLoopError as error:
        print(f"store       {args.db}: {error}")
        return False
    print(f"store       {args.db}: {counted(len(sessions), 'session')}")
    return True


async def _check_weights() -> bool:
    """Says of each local model whether it is here and whole."""
    runtime = _version("xllamacpp")
    if runtime == _MISSING:
        print("local       xllamacpp is missing; get it: pip install 'power-loop[local]'")
    else:
        print(f"local       xllamacpp {runtime} is installed")
    verdicts = [await _check_weights_of(model) for model in LOCAL_MODELS.values()]
    return all(verdicts)


async def _check_weights_of(model: LocalModel) -> bool:
    cache = _cache()
    path = cached_weights(model, cache)
    if path is None:
        there = (cache / "models" / model.file).exists()
        print(
            f"  {model.name:<10} {model.title} is {'incomplete' if there else 'not cached'}; its "
            f"first use fetches {model.download / _MEGABYTE:.0f} MB into {cache / 'models'}"
        )
        return True
    right = await anyio.to_thread.run_sync(_sha256, path) == model.sha256
    verdict = "its checksum is right" if right else "its checksum is WRONG: delete the file"
    size = path.stat().st_size // _MEGABYTE
    print(f"  {model.name:<10} {model.title}, {size} MB, {verdict}\n{'':<13}{path}")
    return right


def _cache() -> Path:
    return LocalSettings.from_env().cache_dir


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tell_keys(settings: CliSettings) -> None:
    for name in settings.providers_with_key:
        print(f"key         {name}: ready for --model {name}:NAME")


async def _check_model(args: Namespace) -> bool:
    settings: CliSettings = args.settings
    local = settings.local_name(args.model)
    if local is not None and args.model is None:
        print(f"model       none in the environment; the default is local:{local}")
        return True
    known = LOCAL_MODELS.get(local or "")
    if known is not None and cached_weights(known, _cache()) is None:
        print(f"model       local:{local} is not asked, as its weights are not here yet")
        return True
    try:
        service = settings.service(args.model)
    except LLMError as error:
        print(f"model       {error}")
        return False
    try:
        return await (_probe(service) if args.probe else _ask(service))
    finally:
        with anyio.CancelScope(shield=True):
            await service.aclose()


async def _ask(service: LLMService) -> bool:
    try:
        with anyio.fail_after(_PROBE_SECONDS):
            request = LLMRequest([Message.user("Say ok.")], max_output_tokens=16)
            response = await service.complete(request)
    except (LLMError, TimeoutError) as error:
        print(f"model       {service.model}: {error or 'no answer in time'}")
        return False
    print(f"model       {service.model} answers: {response.text.strip()[:60]!r}")
    return True


async def _probe(service: LLMService) -> bool:
    """Says what the model can do, a line a capability; False if it does not even answer."""
    report = await probe(service)
    print(f"model       {report.model}, asked what it can do ({report.usage.total_tokens} tokens)")
    for result in report.results:
        print(f"  {result.capability:<14} {result.verdict:<12} {result.evidence}")
    if report.blocked is not None:
        print(f"  {'blocked':<14} {report.blocked}: {_REMEDIES[report.blocked]}")
    return report.blocked is None and report.results[0].verdict == "yes"
