"""What went wrong with PostgreSQL, in words that say what to do."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from power_loop.errors import StoreCorrupt, StoreError, StoreFull, StoreUnavailable

if TYPE_CHECKING or find_spec("psycopg") is not None:
    import psycopg

__all__ = ["damaged", "is_lost", "translate"]

_LOCKED = {"55P03", "40P01", "57014"}
_DENIED = {"28000", "28P01"}
_FULL = {"53100", "53200"}
_GONE = {"57P01", "57P02", "57P03", "57P05", "25P03", "25P04"}
"""Shut down, crashed, starting up, or told to close an idle connection."""
_FOREIGN = {"42P01", "42703", "42883", "42804", "42P10", "42725", "3F000", "42809"}
"""A table, column or function is missing, or is of another kind."""


def is_lost(error: BaseException) -> bool:
    """Whether the connection is gone, so that what was under way may or may not have happened."""
    if not isinstance(error, psycopg.Error):
        return False
    if error.sqlstate is None:
        text = str(error)
        settled = _is_refused_login(text) or _is_missing_database(text)
        return isinstance(error, psycopg.OperationalError) and not settled
    return error.sqlstate in _GONE or error.sqlstate.startswith("08")


def damaged(place: str, what: str) -> StoreCorrupt:
    """An error for a database whose contents contradict themselves."""
    return StoreCorrupt(f"the store at {place} is damaged: {what}. Restore a backup")


def translate(error: Exception, place: str, patience: float) -> StoreError:
    """The typed error for what psycopg raised."""
    code = error.sqlstate if isinstance(error, psycopg.Error) else None
    text = _first_line(error)
    if code in _DENIED or _is_refused_login(text):
        return StoreUnavailable(
            f"{place} refuses this user ({text}). Check the user name and password of the URL, "
            "and the server's pg_hba.conf"
        )
    if code == "3D000" or _is_missing_database(text):
        return StoreUnavailable(f"{place}: {text}. Create it first: createdb NAME")
    if code == "42501":
        return StoreUnavailable(
            f"{place} does not let this user do what is needed ({text}). Let a privileged user "
            "run the DDL that `power-loop store check` prints"
        )
    if code in _FOREIGN:
        return StoreCorrupt(
            f"the tables at {place} are not those of a power_loop store ({text}). Choose another "
            "schema or prefix"
        )
    if code in _LOCKED:
        return StoreUnavailable(
            f"{place} stayed locked for {patience:g} s ({text}). End the program that keeps a "
            "transaction open on its tables"
        )
    if code in _FULL:
        return StoreFull(
            f"no space is left for {place} ({text}). Free some and try again; everything "
            "acknowledged before is safe"
        )
    if code == "25006":
        return StoreUnavailable(
            f"{place} takes no writes ({text}). It is a standby or set to read-only: use the "
            "address of the primary"
        )
    if is_lost(error) or (code is None and isinstance(error, psycopg.OperationalError)):
        return StoreUnavailable(
            f"{place} cannot be reached ({text}). Everything acknowledged before is safe; try "
            "again when the server is back"
        )
    return StoreUnavailable(f"{place} cannot be used: {type(error).__name__}: {text}")


def _first_line(error: BaseException) -> str:
    """An error's own words, on one line and cut short."""
    words = " ".join(str(error).split())
    return words if len(words) <= 300 else words[:299] + "…"


def _is_refused_login(text: str) -> bool:
    """Before a connection stands, libpq gives no code."""
    refused = ("authentication failed", "no pg_hba.conf entry", "no password supplied")
    return any(each in text for each in refused) or ("role " in text and "does not exist" in text)


def _is_missing_database(text: str) -> bool:
    return 'database "' in text and "does not exist" in text
