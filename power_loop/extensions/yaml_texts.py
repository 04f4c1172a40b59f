"""YAML as texts, lists and mappings, and nothing else. The only user of PyYAML.

Importing this module needs PyYAML.
"""

from __future__ import annotations

from power_loop.errors import UsageError

try:
    import yaml
except ModuleNotFoundError as missing:
    raise UsageError(
        "skills need the extra 'skills': pip install 'power-loop[skills]'"
    ) from missing

__all__ = ["yaml_texts"]

_TOLD = 300


class _Loader(yaml.BaseLoader):
    """Text stays text: no dates, no numbers, no objects. No aliases: they grow without bound."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):  # pyright: ignore[reportUnknownMemberType]  its stubs do not say
            raise ValueError("an alias (*) is not taken here; write the value out")
        return super().compose_node(parent, index)


def yaml_texts(text: str) -> object:
    """The value that `text` is: a text, or a list or a mapping of such.

    Raises:
        ValueError: it is no YAML, or nested too deeply; says what and where.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506  it makes nothing but texts
    except (yaml.YAMLError, RecursionError) as error:
        told = " ".join(str(error).split())[:_TOLD] or type(error).__name__
        raise ValueError(told) from error
