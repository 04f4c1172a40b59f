"""How many tokens a request has, before it is sent.

counter      ModelTokens, the counter for one model
base         the protocol, and what counting gives
calibration  what is learnt from what providers report
incremental  counts that grow with their transcript
families     what is known of how each family of models counts
vocabulary   OpenAI's vocabularies, from files of this package; the only user of tiktoken
"""

from __future__ import annotations

from llm_client.tokens.base import TokenCounter, TokenEstimate
from llm_client.tokens.calibration import Calibration
from llm_client.tokens.counter import ModelTokens

__all__ = ["Calibration", "ModelTokens", "TokenCounter", "TokenEstimate"]
