"""Where sessions are kept: opened, and named without its password."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import unquote

from msgspec import Struct

from power_loop.errors import UsageError
from power_loop.runtime.stores.sqlite import SQLiteStore

if TYPE_CHECKING:
    from power_loop.runtime.stores.postgres import PostgresStore

__all__ = ["Database", "DurableStore"]

DurableStore: TypeAlias = "SQLiteStore | PostgresStore"

_SQLITE = "sqlite:///"
_POSTGRES = ("postgresql://", "postgres://")
_SECRETS = frozenset(
    {"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"}
)


class Database(Struct, frozen=True):
    """What `--db` says: a path, or a URL. As text it holds no password.

    Attributes:
        given: as it was typed; may hold a password.
    """

    given: str

    def __str__(self) -> str:
        return _without_secrets(self.given) if "://" in self.given else self.given

    def __repr__(self) -> str:
        return f"Database({str(self)!r})"

    @property
    def path(self) -> Path | None:
        """The file, if it is one."""
        if self.given.startswith(_SQLITE) and self.given != _SQLITE:
            return Path(unquote(self.given.removeprefix(_SQLITE)))
        is_path = "://" not in self.given and self.given != "memory:"
        return Path(self.given) if is_path else None

    @property
    def has_secret(self) -> bool:
        """Whether it says more than its text."""
        return str(self) != self.given

    def open(self, schema_policy: Literal["create", "verify"], *, may_be_new: bool) -> DurableStore:
        """The store that is there. Nothing is opened before its first use.

        Args:
            schema_policy: whether an older or missing schema is made what it must be.
            may_be_new: whether a file that does not exist is made, too.

        Raises:
            UsageError: no store has such a URL, there is no such file, or the extra of the store is
                not installed.
            OSError: the directory of the file cannot be made.
        """
        path = self.path
        if path is not None:
            if may_be_new:
                path.parent.mkdir(parents=True, exist_ok=True)
            elif not path.exists():
                raise UsageError(
                    f"there is no database at {path.absolute()}; `power-loop ask …` makes one, and "
                    "--db names another"
                )
            return SQLiteStore(path, schema_policy=schema_policy)
        if self.given.startswith(_POSTGRES):
            # Loads the driver, which nobody needs for a file.
            module = import_module("power_loop.runtime.stores.postgres")
            postgres: PostgresStore = module.PostgresStore(self.given, schema_policy=schema_policy)
            return postgres
        raise UsageError(
            f"no sessions can be kept in {str(self)!r}; write a path, sqlite:///PATH, or "
            "postgresql://USER@HOST:5432/DATABASE"
        )


def _without_secrets(url: str) -> str:
    """What is left of a URL that may be shown, also of one that is written wrongly."""
    scheme, _, rest = url.partition("://")
    user, at, where = rest.rpartition("@")
    where, mark, query = where.partition("?")
    settings = "&".join([each for each in query.split("&") if not _is_secret(each)])
    return f"{scheme}://{user.partition(':')[0]}{at}{where}{mark if settings else ''}{settings}"


def _is_secret(setting: str) -> bool:
    return unquote(setting.partition("=")[0]).strip() in _SECRETS
