"""What many agents want, made of the public hooks and tools alone.

skills.py        Skills: instructions in folders, read when they are needed
skill_folders.py where they are and what is wrong with some; front_matter.py how a file begins,
                 yaml_texts.py as PyYAML reads it
todo.py          Todo: a list of what is to be done, and a word when it is forgotten
pins.py          Pins: facts and failed approaches that stay in view
following.py     what a transcript has come to, read once

All of it is extensions made of the public hooks; nothing else of the loop knows of it. Each name is
loaded when it is first used, and PyYAML when the first directory of skills is read.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from power_loop.extensions import yaml_texts as yaml_texts
    from power_loop.extensions.pins import Pins, pinned
    from power_loop.extensions.skill_folders import Skill, SkillProblem
    from power_loop.extensions.skills import Skills
    from power_loop.extensions.todo import Todo, TodoItem, todo_list

__all__ = [
    "Pins",
    "Skill",
    "SkillProblem",
    "Skills",
    "Todo",
    "TodoItem",
    "pinned",
    "todo_list",
]

_HOME = {
    "Pins": "pins",
    "Skill": "skill_folders",
    "SkillProblem": "skill_folders",
    "Skills": "skills",
    "Todo": "todo",
    "TodoItem": "todo",
    "pinned": "pins",
    "todo_list": "todo",
}

if not TYPE_CHECKING:  # a type checker shall know the names, and only them

    def __getattr__(name: str) -> Any:
        if name == "yaml_texts":
            return import_module(f"{__name__}.{name}")
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value
