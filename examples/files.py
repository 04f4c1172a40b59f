"""Questions about the files of a directory: the built-in tools, confined to it."""

from pathlib import Path

import anyio

from power_loop import AgentLoop, events, workspace_tools


async def main() -> None:
    """Shows each call and its result while the model works."""
    Path("notes.txt").write_text("The meeting is on Tuesday.\n", encoding="utf-8")
    tools = workspace_tools(Path.cwd(), read_only=True)
    async with AgentLoop("openai:gpt-5-mini", tools=tools) as loop:
        async with loop.stream("When is the meeting? Look at the files in .") as run:
            async for stamped in run:
                match stamped.event:
                    case events.ToolStarted(name=name, arguments=arguments):
                        print("→", name, arguments)
                    case events.ToolSettled(how=how):
                        print("←", how)
                    case _:
                        pass
        print((await run.result()).final_text)


anyio.run(main)
