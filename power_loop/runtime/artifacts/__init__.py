"""Large outputs of tools, kept whole while the model sees their beginning and end.

base   the protocol, and what names an output
files  one file an output, one folder a session

The stores of sessions keep outputs as well: see `power_loop.runtime.stores`.
"""
