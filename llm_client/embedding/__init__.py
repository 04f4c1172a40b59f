"""Texts as vectors, so that what means the same lies close together.

embedder = create_embedder("openai:text-embedding-3-small", dimensions=1536)
vectors = await embedder.embed(["my sister's birthday"])

base    the protocol, and what every embedder looks at
http    the embeddings API of OpenAI, which most servers speak
create  from a model string to an embedder
local   a model that comes inside a package: no key, no network
"""

from __future__ import annotations

from llm_client.embedding.base import Embedder, TextKind, Vector
from llm_client.embedding.create import create_embedder
from llm_client.embedding.http import HttpEmbedder
from llm_client.embedding.local import LocalEmbedder

__all__ = [
    "Embedder",
    "HttpEmbedder",
    "LocalEmbedder",
    "TextKind",
    "Vector",
    "create_embedder",
]
