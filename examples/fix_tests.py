"""A goal instead of a prompt: the run ends when pytest says so, or when nothing gets better."""

from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from power_loop import AgentLoop, Budget
from power_loop.governance import Exit
from power_loop.governance.blueprints.test_fix import TestFixBlueprint

CODE = '''def median(values):
    """The one in the middle, or the mean of the two there."""
    return sorted(values)[len(values) // 2]
'''
TESTS = """from numbers_of import median

def test_odd():
    assert median([3, 1, 2]) == 2

def test_even():
    assert median([1, 2, 3, 4]) == 2.5
"""


async def main() -> None:
    """Has a model mend a repository of two files."""
    with TemporaryDirectory() as directory:
        repo = Path(directory)
        (repo / "numbers_of.py").write_text(CODE)
        (repo / "test_numbers_of.py").write_text(TESTS)
        goal = TestFixBlueprint(repo, exits=[Exit.max_rounds(20)])
        async with AgentLoop("openai:gpt-5-mini", extensions=[goal]) as loop:
            result = await loop.send("Mend it.", budget=Budget(tokens=100_000))
        print(result.status, "-", result.outcome.recommended_action)
        print((repo / "numbers_of.py").read_text())


anyio.run(main)
