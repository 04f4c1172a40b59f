"""`python -m benchmarks [a b c …] [--against floor,…] [--json FILE]`: see docs/performance.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.harness import measure, serving
from benchmarks.scenarios import FULL, LETTERS, TINY, WrongResult
from benchmarks.table import as_json, as_table
from benchmarks.worker import SIDES


def main() -> int:
    """Measures and prints; 1 when a run came to a wrong result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="a…h", help="all of them if none is named")
    parser.add_argument("--against", default="floor", help="sides to compare with, by comma")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the rows as JSON")
    parser.add_argument("--tiny", action="store_true", help="very little work: figures say nothing")
    options = parser.parse_args()
    letters: list[str] = options.scenarios or list(LETTERS)
    against: list[str] = options.against.split(",")
    others = sorted(set(SIDES) - {"ours"})
    if unknown := set(letters) - set(LETTERS):
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(LETTERS)}")
    if unknown := set(against) - set(others):
        parser.error(f"no side {', '.join(sorted(unknown))}; there is {', '.join(others)}")
    try:
        with serving() as url:
            rows = measure(letters, against, TINY if options.tiny else FULL, url)
    except WrongResult as error:
        print(f"not measured: {error}", file=sys.stderr)
        return 1
    print(as_table(rows))
    if options.json is not None:
        options.json.write_bytes(as_json(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
