"""`explain`: why a run ended as it did."""

from __future__ import annotations

from argparse import Namespace

import msgspec

from power_loop.agent import travel
from power_loop.runtime.stores.base import Store

__all__ = ["explain"]


async def explain(args: Namespace, store: Store) -> int:
    """`explain`: the rule that decided, what was left of the limits, and the chain of decisions."""
    found = await travel.explain(store, args.session, args.run)
    print(msgspec.json.encode(found).decode() if args.json else found)
    return 0
