"""Memory by meaning: what was said is found again by what it is about.

base      the protocol VectorIndex, and what is in one
sqlite    an index in a file, with sqlite-vec
postgres  an index on a server, with pgvector
memory    VectorMemory, the provider over any index and any embedder
chunking  what of a run is worth keeping, in pieces
"""
