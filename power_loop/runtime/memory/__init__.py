"""What outlives a session: who recalls it, and who takes note of it.

base         the protocol, and what a provider is told
note_memory  what agents write down themselves; fact_memory: what the model draws from a run
recalling    what is brought up of stored notes; policy: how much
tagging      how a memory is shown to a model: as data

Where notes are kept is a part of the stores: `power_loop.runtime.stores.notes`.
"""
