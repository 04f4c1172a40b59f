"""Parameter descriptions are read in the three forms that people write."""

from __future__ import annotations

import pytest

from power_loop.tools.docstring import Documentation, parse_docstring

GOOGLE = """Finds things
    in a store.

    A second paragraph.

    Args:
        query (str): what to look
            for, in words: any
        limit: at most so many

        *rest: what remains
    Returns:
        limit: not a parameter
    """

NUMPY = """Finds things in a store.

    Parameters
    ----------
    query : str
        what to look
        for, in words: any
    limit, offset : int, optional
        at most so many

    Returns
    -------
    hits : list
        what was found
    """

REST = """Finds things in a store.

    :param query: what to look
        for, in words: any
    :param int limit: at most so many
    :type query: str
    :returns: hits
    :raises ValueError: never
    """


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        (
            GOOGLE,
            {
                "query": "what to look for, in words: any",
                "limit": "at most so many",
                "rest": "what remains",
            },
        ),
        (
            NUMPY,
            {
                "query": "what to look for, in words: any",
                "limit": "at most so many",
                "offset": "at most so many",
            },
        ),
        (REST, {"query": "what to look for, in words: any", "limit": "at most so many"}),
    ],
    ids=["google", "numpy", "rest"],
)
def test_each_form_gives_summary_and_parameters(text: str, parameters: dict[str, str]) -> None:
    """Continued lines are joined; sections of other kinds are no parameters."""
    assert parse_docstring(text) == Documentation("Finds things in a store.", parameters)


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        (None, ""),
        ("", ""),
        ("\n\n", ""),
        ("One line.", "One line."),
        ("\n    Begins\n    late.\n\n    More.", "Begins late."),
        ("Args:\n    x: only that", ""),
        (":param x: only that", ""),
        ("Parameters\n----------\nx\n    only that", ""),
        ("A summary\nArgs:\n    x: right below", "A summary"),
    ],
)
def test_the_summary_is_the_first_paragraph(text: str | None, summary: str) -> None:
    """And nothing, where there is none."""
    assert parse_docstring(text).summary == summary
