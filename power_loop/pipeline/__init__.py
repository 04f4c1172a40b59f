"""The loop itself: a short asynchronous script over ports, without any I/O of its own.

ports.py     all that it may ask of the world
run.py       which phase runs when
model.py     one round: inbox, limits, compaction, memory, the model
attempts.py  one model call, however often it takes
refusals.py  what leaves the view when the provider refuses it
tools.py     one batch of calls
settle.py    whether an answer is the end
"""
