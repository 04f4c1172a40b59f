"""Skills that are read when they are needed, a todo list, and facts that no summary swallows.

It asks `openai:gpt-5-mini`, with the key in OPENAI_API_KEY; examples/long_chat.py needs no key.
"""

from pathlib import Path

import anyio

from power_loop import AgentConfig, AgentLoop, Section, SystemPrompt
from power_loop.extensions import Pins, Skills, Todo, pinned, todo_list

SKILL = """\
---
name: greeting
description: How to greet guests. Use it whenever a guest is to be greeted.
---

Greet in the language of the guest. For how to say it in that language, read phrases.md.
"""


async def main() -> None:
    """Gives an agent a skill, and shows what it has made of it."""
    folder = Path("skills", "greeting")
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text(SKILL, encoding="utf-8")
    (folder / "phrases.md").write_text("Italian: Benvenuta!\n", encoding="utf-8")

    skills = Skills("skills")
    for problem in skills.problems:
        print("left out:", problem)
    prompt = SystemPrompt.main().use(Section("identity", "You are the host of a small hotel."))
    config = AgentConfig(system_prompt=prompt)
    extensions = [skills, Todo(), Pins()]
    async with AgentLoop("openai:gpt-5-mini", config=config, extensions=extensions) as loop:
        guest = pinned("The guest is Ada. She speaks Italian.", name="guest")
        session = (await loop.send(guest)).session_id
        result = await loop.send("Ada is here. Begin with the skill for a greeting.", session)
        print(result.final_text)
        for item in todo_list(await loop.get_messages(session)):
            print(item)


anyio.run(main)
