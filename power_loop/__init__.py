"""An embeddable, durable agent kernel for async Python.

    session/    a session as a pure state machine over durable records
    hooks.py    every place in the loop where your code may run
    events.py   everything a reader may see
    pipeline/   the loop: a script over ports, without I/O
    driver/     the ports made real: model, tools, committer, readers
    runtime/    leaves: stores, budgets, compaction, memory, large outputs
    tools/      @tool, registry, the files of a workspace
    agent/      AgentLoop and its verbs
    governance/ policies, exits, goals: when a run is to stop, and what it may do
    extensions/ skills, todo lists, pinned facts
    history/    a stored session: replayed, forked, compared, archived, accounted for
    cli/        the `power-loop` command

Importing this package loads none of that; each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm_client.retry import FallbackPolicy, RetryPolicy, RetryRule
    from llm_client.types import (
        Audio,
        File,
        Image,
        LLMRequest,
        LLMResponse,
        Message,
        Text,
        Thinking,
        ToolCall,
        ToolResult,
        ToolSpec,
        Usage,
    )
    from power_loop import errors, events, hooks
    from power_loop.agent.answers import answer, approve, deny
    from power_loop.agent.config import AgentConfig
    from power_loop.agent.context_tools import read_output_tool
    from power_loop.agent.deciding import Decision
    from power_loop.agent.extensions import Extension, Subscription, installed_extensions
    from power_loop.agent.loop import AgentLoop
    from power_loop.agent.note_tools import note_tools
    from power_loop.agent.opening import PendingCall
    from power_loop.agent.recall_tool import recall_compacted_tool
    from power_loop.agent.requests import ApprovalRequest, InputRequest
    from power_loop.agent.responding import CallbackResponder, Responder
    from power_loop.agent.result import RunResult, result_of
    from power_loop.agent.stream import RunStream
    from power_loop.agent.subagent import SubAgent
    from power_loop.agent.system_prompt import PromptContext, Section, SystemPrompt
    from power_loop.agent.terminal import TerminalResponder
    from power_loop.driver.dispatch import Hooks
    from power_loop.errors import PowerLoopError
    from power_loop.events import Stamped
    from power_loop.history.archive import export_session, import_session
    from power_loop.history.difference import SessionDiff
    from power_loop.history.explanation import Explanation
    from power_loop.history.replay import Replayed
    from power_loop.history.usage import SessionUsage
    from power_loop.pipeline.plan import Answer
    from power_loop.runtime.artifacts.base import ArtifactStore
    from power_loop.runtime.artifacts.files import FileArtifacts
    from power_loop.runtime.budget.limits import Budget
    from power_loop.runtime.budget.shared import SharedBudget
    from power_loop.runtime.cancellation import CancellationToken
    from power_loop.runtime.compaction.base import (
        CompactionPlan,
        CompactionRefused,
        Compactor,
        ContextSize,
    )
    from power_loop.runtime.compaction.keeper import default_compactors
    from power_loop.runtime.compaction.native import NativeCompactor
    from power_loop.runtime.compaction.results import ToolResultCompactor
    from power_loop.runtime.compaction.summary import DefaultCompactor
    from power_loop.runtime.compaction.trim import TrimCompactor
    from power_loop.runtime.memory.base import (
        MemoryProvider,
        MemoryScope,
        MemorySnapshot,
        RecallQuery,
    )
    from power_loop.runtime.memory.fact_memory import FactMemory
    from power_loop.runtime.memory.note_memory import NoteMemory
    from power_loop.runtime.memory.policy import NotesPolicy
    from power_loop.runtime.memory.tagging import tag_as_memory
    from power_loop.runtime.memory.vectors.base import VectorIndex
    from power_loop.runtime.memory.vectors.memory import VectorMemory, VectorPolicy
    from power_loop.runtime.memory.vectors.postgres import PostgresVectorIndex
    from power_loop.runtime.memory.vectors.sqlite import SQLiteVectorIndex
    from power_loop.runtime.stores.base import Store
    from power_loop.runtime.stores.memory import MemoryStore
    from power_loop.runtime.stores.notes import (
        Note,
        NoteFilter,
        NoteStore,
        export_memory,
        forget_memory,
    )
    from power_loop.runtime.stores.opening import open_store
    from power_loop.runtime.stores.postgres import PostgresStore
    from power_loop.runtime.stores.sqlite import SQLiteStore
    from power_loop.tools.base import Result, Tool, ToolOutput
    from power_loop.tools.builtin import ask_user_tool, workspace_tools
    from power_loop.tools.context import ToolContext
    from power_loop.tools.function import tool
    from power_loop.tools.json_tool import JsonSchemaTool
    from power_loop.tools.output import OutputPolicy
    from power_loop.tools.reconciling import Reconciled
    from power_loop.tools.registry import ToolRegistry

__all__ = [  # noqa: RUF022  grouped by use
    # the loop
    "AgentLoop",
    "AgentConfig",
    "RunResult",
    "RunStream",
    "CancellationToken",
    "PendingCall",
    "Decision",
    "Result",
    "RetryPolicy",
    "RetryRule",
    "FallbackPolicy",
    "result_of",
    # limits
    "Budget",
    "SharedBudget",
    "SubAgent",
    # people in it
    "Answer",
    "ApprovalRequest",
    "CallbackResponder",
    "InputRequest",
    "Responder",
    "TerminalResponder",
    "answer",
    "approve",
    "deny",
    # what the model is told first
    "PromptContext",
    "Section",
    "SystemPrompt",
    # extending it
    "Extension",
    "Hooks",
    "Subscription",
    "hooks",
    "installed_extensions",
    # watching it
    "Stamped",
    "events",
    # tools
    "JsonSchemaTool",
    "OutputPolicy",
    "Reconciled",
    "Tool",
    "ToolContext",
    "ToolOutput",
    "ToolRegistry",
    "ask_user_tool",
    "read_output_tool",
    "recall_compacted_tool",
    "tool",
    "workspace_tools",
    # going back, and elsewhere
    "Explanation",
    "Replayed",
    "SessionDiff",
    "SessionUsage",
    "export_session",
    "import_session",
    # a conversation that outgrows its model
    "CompactionPlan",
    "CompactionRefused",
    "Compactor",
    "ContextSize",
    "DefaultCompactor",
    "NativeCompactor",
    "ToolResultCompactor",
    "TrimCompactor",
    "default_compactors",
    # memory
    "FactMemory",
    "MemoryProvider",
    "MemoryScope",
    "MemorySnapshot",
    "Note",
    "NoteFilter",
    "NoteMemory",
    "NoteStore",
    "NotesPolicy",
    "RecallQuery",
    "export_memory",
    "forget_memory",
    "note_tools",
    "tag_as_memory",
    # memory by meaning
    "PostgresVectorIndex",
    "SQLiteVectorIndex",
    "VectorIndex",
    "VectorMemory",
    "VectorPolicy",
    # stores
    "ArtifactStore",
    "FileArtifacts",
    "MemoryStore",
    "PostgresStore",
    "SQLiteStore",
    "Store",
    "open_store",
    # messages
    "Audio",
    "File",
    "Image",
    "LLMRequest",
    "LLMResponse",
    "Message",
    "Text",
    "Thinking",
    "ToolCall",
    "ToolResult",
    "ToolSpec",
    "Usage",
    # errors
    "PowerLoopError",
    "errors",
]

_HOME = {
    "llm_client.retry": ("FallbackPolicy", "RetryPolicy", "RetryRule"),
    "llm_client.types": (
        "Audio",
        "File",
        "Image",
        "LLMRequest",
        "LLMResponse",
        "Message",
        "Text",
        "Thinking",
        "ToolCall",
        "ToolResult",
        "ToolSpec",
        "Usage",
    ),
    "power_loop.agent.answers": ("answer", "approve", "deny"),
    "power_loop.agent.config": ("AgentConfig",),
    "power_loop.agent.context_tools": ("read_output_tool",),
    "power_loop.agent.deciding": ("Decision",),
    "power_loop.agent.extensions": ("Extension", "Subscription", "installed_extensions"),
    "power_loop.agent.loop": ("AgentLoop",),
    "power_loop.agent.note_tools": ("note_tools",),
    "power_loop.agent.opening": ("PendingCall",),
    "power_loop.agent.recall_tool": ("recall_compacted_tool",),
    "power_loop.agent.requests": ("ApprovalRequest", "InputRequest"),
    "power_loop.agent.responding": ("CallbackResponder", "Responder"),
    "power_loop.agent.result": ("RunResult", "result_of"),
    "power_loop.agent.stream": ("RunStream",),
    "power_loop.agent.subagent": ("SubAgent",),
    "power_loop.agent.system_prompt": ("PromptContext", "Section", "SystemPrompt"),
    "power_loop.agent.terminal": ("TerminalResponder",),
    "power_loop.driver.dispatch": ("Hooks",),
    "power_loop.errors": ("PowerLoopError",),
    "power_loop.events": ("Stamped",),
    "power_loop.history.archive": ("export_session", "import_session"),
    "power_loop.history.difference": ("SessionDiff",),
    "power_loop.history.explanation": ("Explanation",),
    "power_loop.history.replay": ("Replayed",),
    "power_loop.history.usage": ("SessionUsage",),
    "power_loop.pipeline.plan": ("Answer",),
    "power_loop.runtime.artifacts.base": ("ArtifactStore",),
    "power_loop.runtime.artifacts.files": ("FileArtifacts",),
    "power_loop.runtime.budget.limits": ("Budget",),
    "power_loop.runtime.budget.shared": ("SharedBudget",),
    "power_loop.runtime.cancellation": ("CancellationToken",),
    "power_loop.runtime.compaction.base": (
        "CompactionPlan",
        "CompactionRefused",
        "Compactor",
        "ContextSize",
    ),
    "power_loop.runtime.compaction.keeper": ("default_compactors",),
    "power_loop.runtime.compaction.native": ("NativeCompactor",),
    "power_loop.runtime.compaction.results": ("ToolResultCompactor",),
    "power_loop.runtime.compaction.summary": ("DefaultCompactor",),
    "power_loop.runtime.compaction.trim": ("TrimCompactor",),
    "power_loop.runtime.memory.base": (
        "MemoryProvider",
        "MemoryScope",
        "MemorySnapshot",
        "RecallQuery",
    ),
    "power_loop.runtime.memory.fact_memory": ("FactMemory",),
    "power_loop.runtime.memory.note_memory": ("NoteMemory",),
    "power_loop.runtime.memory.policy": ("NotesPolicy",),
    "power_loop.runtime.memory.tagging": ("tag_as_memory",),
    "power_loop.runtime.memory.vectors.base": ("VectorIndex",),
    "power_loop.runtime.memory.vectors.memory": ("VectorMemory", "VectorPolicy"),
    "power_loop.runtime.memory.vectors.postgres": ("PostgresVectorIndex",),
    "power_loop.runtime.memory.vectors.sqlite": ("SQLiteVectorIndex",),
    "power_loop.runtime.stores.base": ("Store",),
    "power_loop.runtime.stores.memory": ("MemoryStore",),
    "power_loop.runtime.stores.notes": (
        "Note",
        "NoteFilter",
        "NoteStore",
        "export_memory",
        "forget_memory",
    ),
    "power_loop.runtime.stores.opening": ("open_store",),
    "power_loop.runtime.stores.postgres": ("PostgresStore",),
    "power_loop.runtime.stores.sqlite": ("SQLiteStore",),
    "power_loop.tools.base": ("Result", "Tool", "ToolOutput"),
    "power_loop.tools.context": ("ToolContext",),
    "power_loop.tools.builtin": ("ask_user_tool", "workspace_tools"),
    "power_loop.tools.function": ("tool",),
    "power_loop.tools.json_tool": ("JsonSchemaTool",),
    "power_loop.tools.output": ("OutputPolicy",),
    "power_loop.tools.reconciling": ("Reconciled",),
    "power_loop.tools.registry": ("ToolRegistry",),
}
_MODULES = ("errors", "events", "hooks")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"power_loop.{name}")
    for module, names in _HOME.items():
        if name in names:
            value = getattr(import_module(module), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
