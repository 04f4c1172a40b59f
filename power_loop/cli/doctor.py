"""`doctor`: what is installed, which provider answers, which model is cached."""

from __future__ import annotations

import platform
from argparse import Namespace
from importlib.metadata import PackageNotFoundError, version

import anyio

from llm_client.errors import LLMError
from llm_client.types import LLMRequest, Message
from power_loop.cli.settings import CliSettings
from power_loop.errors import PowerLoopError
from power_loop.runtime.stores.sqlite import SQLiteStore

__all__ = ["doctor"]

_PACKAGES = {
    "anyio": "core",
    "httpcore": "core",
    "msgspec": "core",
    "pydantic": "core",
    "regex": "core",
    "sniffio": "core",
    "rich": "extra cli: live display",
    "xllamacpp": "extra local: the embedded model",
    "aiohttp": "extra fast: the quicker transport",
}
_PROBE_SECONDS = 20


async def doctor(args: Namespace, store: SQLiteStore) -> int:
    """`doctor`: exit status 1 if something that is set up does not work."""
    print(f"power-loop  {_version('power-loop')}, Python {platform.python_version()}")
    for package, purpose in _PACKAGES.items():
        print(f"  {package:<10} {_version(package):<14} {purpose}")
    stored = await _check_store(args, store)
    answers = await _check_model(args)
    return 0 if stored and answers else 1


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


async def _check_store(args: Namespace, store: SQLiteStore) -> bool:
    try:
        sessions = await store.list(limit=1000)
    except PowerLoopError as error:
        print(f"store       {args.db}: {error}")
        return False
    print(f"store       {args.db}: {len(sessions)} sessions")
    return True


async def _check_model(args: Namespace) -> bool:
    settings: CliSettings = args.settings
    if args.model is None and not settings.configured:
        print("model       none in the environment; the local model local:smollm2 is the default")
        return True
    try:
        service = settings.service(args.model)
    except LLMError as error:
        print(f"model       {error}")
        return False
    try:
        with anyio.fail_after(_PROBE_SECONDS):
            request = LLMRequest([Message.user("Say ok.")], max_output_tokens=16)
            response = await service.complete(request)
    except (LLMError, TimeoutError) as error:
        print(f"model       {service.model}: {error or 'no answer in time'}")
        return False
    finally:
        with anyio.CancelScope(shield=True):
            await service.aclose()
    print(f"model       {service.model} answers: {response.text.strip()[:60]!r}")
    return True
