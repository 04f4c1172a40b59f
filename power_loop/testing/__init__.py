"""For tests of programs that use power_loop, and of their own parts of it.

replaying.py             does a loop still do what it did when a session was recorded?
store_conformance.py     does a store keep the promises of the Store protocol?
artifact_conformance.py  does a store of large outputs keep those of ArtifactStore?
"""

from __future__ import annotations

from power_loop.testing.artifact_conformance import ARTIFACT_CHECKS as ARTIFACT_CHECKS
from power_loop.testing.artifact_conformance import check_artifacts as check_artifacts
from power_loop.testing.replaying import ReplayDiverged as ReplayDiverged
from power_loop.testing.replaying import replay_session as replay_session
from power_loop.testing.store_conformance import STORE_CHECKS as STORE_CHECKS
from power_loop.testing.store_conformance import StoreCheck as StoreCheck
from power_loop.testing.store_conformance import StoreDefect as StoreDefect
from power_loop.testing.store_conformance import check_store as check_store
from power_loop.testing.store_conformance import run_store_check as run_store_check
