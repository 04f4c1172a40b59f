"""Limits of judgement, not of amounts: what may be done, when it is enough, when it goes nowhere.

policies.py    Policy and its decisions; Policies makes hooks of them
approval.py    RequireApproval: a person is asked first
checks.py      what a rule is given, and what foreign code answers
allowlist.py   ToolAllowlist                 rates.py  RateLimit
costs.py       CostLimit, with a warning
repetition.py  RepetitionGuard, by degrees   stalled.py  NoProgress, bluntly
rounds.py      what the last rounds were, as the transcript tells it; cycles.py whether they repeat
exits.py       Exit and Exits: conditions under which a run ends
progress.py    what is measured, and whether that was progress
kept.py        what has to be there in the end, as it was in the beginning
plans.py       ValidPlans: calls that cannot be made are given back
goals.py       GoalDriven: runs that end when their goal is measured to be reached
blueprints/    whole set-ups: a test suite is to be mended

All of it is extensions made of the public hooks; nothing else of the loop knows of it.
"""

from __future__ import annotations

from power_loop.governance.allowlist import ToolAllowlist
from power_loop.governance.approval import RequireApproval
from power_loop.governance.costs import CostLimit
from power_loop.governance.exits import Exit, ExitCondition, Exits, ExitState
from power_loop.governance.goals import GoalDriven
from power_loop.governance.plans import ValidPlans
from power_loop.governance.policies import Pause, Policies, Policy, Refuse, Stop, Warn
from power_loop.governance.progress import GoalMetric, GoalProgress, MetricSnapshot
from power_loop.governance.rates import RateLimit
from power_loop.governance.repetition import RepetitionGuard
from power_loop.governance.stalled import NoProgress

__all__ = [  # noqa: RUF022  grouped by use
    # policies
    "Policies",
    "Policy",
    "Stop",
    "Pause",
    "Refuse",
    "Warn",
    "RequireApproval",
    "ToolAllowlist",
    "RateLimit",
    "CostLimit",
    "NoProgress",
    "RepetitionGuard",
    # exits
    "Exit",
    "ExitCondition",
    "ExitState",
    "Exits",
    # goals
    "GoalDriven",
    "GoalMetric",
    "GoalProgress",
    "MetricSnapshot",
    "ValidPlans",
]
