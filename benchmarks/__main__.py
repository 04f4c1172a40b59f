"""`python -m benchmarks [a b c … | clients] [--against floor,…] [--json FILE]`.

See docs/performance.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.clients import table as client_table
from benchmarks.clients.table import measure_clients
from benchmarks.clients.worker import missing_sdks
from benchmarks.harness import measure, serving
from benchmarks.scenarios import FULL, LETTERS, TINY, WrongResult
from benchmarks.table import as_json, as_table
from benchmarks.worker import SIDES

CLIENTS = "clients"


def main() -> int:
    """Measures and prints; 1 when a run came to a wrong result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "scenarios", nargs="*", metavar="a…h | clients", help="all letters if none is named"
    )
    parser.add_argument("--against", default="floor", help="sides to compare with, by comma")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the rows as JSON")
    parser.add_argument("--tiny", action="store_true", help="very little work: figures say nothing")
    options = parser.parse_args()
    letters: list[str] = options.scenarios or list(LETTERS)
    against: list[str] = options.against.split(",")
    others = sorted(set(SIDES) - {"ours"})
    if letters != [CLIENTS] and (unknown := set(letters) - set(LETTERS)):
        parser.error(
            f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(LETTERS)}, "
            f"and, alone, {CLIENTS}"
        )
    if unknown := set(against) - set(others):
        parser.error(f"no side {', '.join(sorted(unknown))}; there is {', '.join(others)}")
    try:
        with serving() as url:
            if letters == [CLIENTS]:
                table, rows = clients(url, tiny=options.tiny)
            else:
                measured = measure(letters, against, TINY if options.tiny else FULL, url)
                table, rows = as_table(measured), as_json(measured)
    except WrongResult as error:
        print(f"not measured: {error}", file=sys.stderr)
        return 1
    print(table)
    if options.json is not None:
        options.json.write_bytes(rows)
    return 0


def clients(url: str, *, tiny: bool) -> tuple[str, bytes]:
    """The table of clients, and its rows as JSON."""
    if absent := missing_sdks():
        print(
            f"without columns, because not installed: {', '.join(absent)} "
            "(pip install 'power-loop[bench]')",
            file=sys.stderr,
        )
    rows = measure_clients("tiny" if tiny else "full", url)
    return client_table.as_table(rows), client_table.as_json(rows)


if __name__ == "__main__":
    sys.exit(main())
