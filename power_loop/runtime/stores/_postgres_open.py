"""Connections to a PostgreSQL server: settings, names, and what makes a session of it safe."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from time import monotonic
from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from power_loop.errors import UsageError
from power_loop.runtime.stores._postgres_errors import translate

# Whoever lists or reads the package's names must not need every extra.
_INSTALLED = find_spec("psycopg") is not None
if TYPE_CHECKING or _INSTALLED:
    import psycopg
    from psycopg import Connection
    from psycopg.conninfo import conninfo_to_dict
    from psycopg.rows import TupleRow

__all__ = ["SchemaPolicy", "Settings", "connect", "make_settings", "pauses"]

SchemaPolicy = Literal["create", "verify"]
"""What is done with a schema that is missing or old: mended, or refused with the DDL to run."""

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,29}")
_PREFIX = re.compile(r"([a-z_][a-z0-9_]{0,19})?")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0
_PLACEHOLDER = re.compile(r"@(\w+)")


class Settings(Struct, frozen=True):
    """How to reach a server, and what the tables are called there.

    Attributes:
        conninfo: as libpq takes it; may hold a password.
        place: the same for people, without any secret.
        schema, prefix: where the tables are, and what their names begin with.
        policy: what is done with a schema that is missing or old.
        patience: seconds to wait for a lock, and for a server that has gone away.
    """

    conninfo: str
    place: str
    schema: str
    prefix: str
    policy: SchemaPolicy
    patience: float

    def __repr__(self) -> str:
        return f"Settings({self.place!r})"

    @property
    def channel(self) -> str:
        """Where changes are told of."""
        return f"{self.schema}.{self.prefix}changes"

    def sql(self, text: str) -> bytes:
        """`text` with `@name` replaced by the name in use here."""
        return _rendered(text, f'"{self.schema}".{self.prefix}', self.channel)


@lru_cache(maxsize=256)
def _rendered(text: str, before: str, channel: str) -> bytes:
    def name(found: re.Match[str]) -> str:
        return channel if found[1] == "channel" else f"{before}{found[1]}"

    return _PLACEHOLDER.sub(name, text).encode()


def make_settings(
    url: str, schema: str, prefix: str, policy: SchemaPolicy, patience: float
) -> Settings:
    """Checks what a caller passed.

    Raises:
        UsageError: psycopg is not installed, the URL cannot be read, or a name or policy cannot be.
    """
    if not _INSTALLED:
        raise UsageError(
            "PostgresStore needs the extra 'postgres': pip install 'power-loop[postgres]'"
        )
    if not _NAME.fullmatch(schema) or not _PREFIX.fullmatch(prefix):
        raise UsageError(
            f"schema {schema!r} and prefix {prefix!r} must be lower-case names, of at most 30 and "
            "20 characters: letters, digits, underscores"
        )
    if policy not in ("create", "verify"):
        raise UsageError(f"schema_policy is 'create' or 'verify', not {policy!r}")
    try:
        parts = conninfo_to_dict(url)
        for port in str(parts.get("port") or 0).split(","):  # libpq looks only when it connects
            int(port)
    except (psycopg.ProgrammingError, ValueError):
        # Its own words may quote the password.
        raise UsageError(
            "the PostgreSQL URL cannot be read; write postgresql://user@host:5432/database"
        ) from None
    host = parts.get("host") or parts.get("hostaddr") or "localhost"
    port, user, database = (parts.get(name) for name in ("port", "user", "dbname"))
    place = f"postgresql://{f'{user}@' if user else ''}{host}{f':{port}' if port else ''}"
    return Settings(url, f"{place}/{database or user or ''}", schema, prefix, policy, patience)


def connect(settings: Settings) -> Connection[TupleRow]:
    """A connection in autocommit mode, which no lock and no dead peer can hold up for ever.

    Raises:
        StoreError: the server cannot be reached or refuses; says why.
    """
    patience = settings.patience
    milliseconds = max(1, round(patience * 1000))
    try:
        return psycopg.connect(
            settings.conninfo,
            autocommit=True,
            prepare_threshold=0,
            connect_timeout=max(2, round(patience)),
            application_name="power_loop",
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            tcp_user_timeout=15_000,
            options=f"-c lock_timeout={milliseconds} -c client_min_messages=warning "
            f"-c idle_in_transaction_session_timeout={milliseconds}",
        )
    except psycopg.Error as error:
        raise translate(error, settings.place, patience) from _without_secrets(error)


def pauses(patience: float) -> Iterator[float]:
    """Seconds between attempts to reach a server that has gone away, until patience ends."""
    until, pause = monotonic() + patience, _FIRST_PAUSE
    while monotonic() + pause <= until:
        yield pause
        pause = min(2 * pause, _LONGEST_PAUSE)


def _without_secrets(error: BaseException) -> BaseException | None:
    """Libpq quotes no password in its errors; what quotes a whole conninfo is left out."""
    return None if "password=" in str(error) else error
