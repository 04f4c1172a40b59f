"""`python -m benchmarks [a b c …] [--against floor,…] [--json FILE]`; instead of letters, `clients`
or `codecs` for the tables of the client alone, `stores` for the stores beside their drivers,
`limits` for what budgets and policies cost, `cancel` for how soon a run ends, or `context` for a
run of 5,000 rounds on a window of 32k. See docs/performance.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import cancelling, long_context
from benchmarks.clients import codecs
from benchmarks.clients import table as clients
from benchmarks.clients.worker import missing_sdks
from benchmarks.harness import measure, serving
from benchmarks.limits import table as limits
from benchmarks.scenarios import FULL, LETTERS, TINY, WrongResult
from benchmarks.stores import servers
from benchmarks.stores import table as stores
from benchmarks.table import as_json, as_table

CLIENTS = "clients"
CODECS = "codecs"
STORES = "stores"
LIMITS = "limits"
CANCEL = "cancel"
CONTEXT = "context"
ALONE = (CLIENTS, CODECS, STORES, LIMITS, CANCEL, CONTEXT)
OTHERS = ("floor",)


def main() -> int:
    """Measures and prints; 1 when a run came to a wrong result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "scenarios",
        nargs="*",
        metavar=f"a…h | {' | '.join(ALONE)}",
        help="all letters if nothing is named",
    )
    parser.add_argument("--against", default="floor", help="sides to compare with, by comma")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the rows as JSON")
    parser.add_argument("--tiny", action="store_true", help="very little work: figures say nothing")
    options = parser.parse_args()
    letters: list[str] = options.scenarios or list(LETTERS)
    against: list[str] = options.against.split(",")
    alone = len(letters) == 1 and letters[0] in ALONE
    if not alone and (unknown := set(letters) - set(LETTERS)):
        parser.error(
            f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(LETTERS)}, "
            f"and, each alone, {' and '.join(ALONE)}"
        )
    if unknown := set(against) - set(OTHERS):
        parser.error(f"no side {', '.join(sorted(unknown))}; there is {', '.join(OTHERS)}")
    try:
        table, rows = measured(letters, against, tiny=options.tiny)
    except WrongResult as error:
        print(f"not measured: {error}", file=sys.stderr)
        return 1
    print(table)
    if options.json is not None:
        options.json.write_bytes(rows)
    return 0


def measured(letters: list[str], against: list[str], *, tiny: bool) -> tuple[str, bytes]:
    """The table that is asked for, and its rows as JSON.

    Raises:
        WrongResult: a run came to another result than it must.
    """
    if letters == [CODECS]:
        found = codecs.measure_codecs(codecs.TINY if tiny else codecs.FULL)
        return codecs.as_table(found), codecs.as_json(found)
    if letters == [CONTEXT]:
        run = long_context.measure_long_run("tiny" if tiny else "full")
        return long_context.as_table(run), long_context.as_json(run)
    with serving() as url:
        if letters == [CLIENTS]:
            say_what_is_missing()
            beside = clients.measure_clients("tiny" if tiny else "full", url)
            return clients.as_table(beside), clients.as_json(beside)
        if letters == [CANCEL]:
            ends = cancelling.measure_cancelling("tiny" if tiny else "full", url)
            return cancelling.as_table(ends), cancelling.as_json(ends)
        if letters == [LIMITS]:
            costs = limits.measure_limits("tiny" if tiny else "full", url)
            return limits.as_table(costs), limits.as_json(costs)
        if letters == [STORES]:
            if missing := servers.missing():
                raise WrongResult(f"PostgreSQL needs {missing}: pip install 'power-loop[dev]'")
            found_stores = stores.measure_stores("tiny" if tiny else "full", url)
            return stores.as_table(found_stores), stores.as_json(found_stores)
        rows = measure(letters, against, TINY if tiny else FULL, url)
        return as_table(rows), as_json(rows)


def say_what_is_missing() -> None:
    """Names the SDKs without which columns stay empty."""
    if missing := missing_sdks():
        print(
            f"not installed, so not measured: {', '.join(missing)} "
            "(pip install 'power-loop[bench]')",
            file=sys.stderr,
        )


if __name__ == "__main__":
    sys.exit(main())
