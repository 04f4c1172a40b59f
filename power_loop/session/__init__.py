"""The session: a pure state machine over typed, durable records.

records.py   what can happen, as frozen values
outcome.py   how a run can end, as frozen values
machine.py   which record is legal when, and what it changes
view.py      what a change of view may do to the messages a model sees
text.py      characters that no store and no provider takes
"""
