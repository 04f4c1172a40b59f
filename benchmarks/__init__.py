"""What the loop costs, beside a loop written by hand over the same HTTP engine.

scenarios.py    what is measured, how large, in which unit, and what is to be reached
wire.py         answers in wire form, for the mock server
mock_server.py  a model that answers at once, in a process of its own
floor.py        the loop written by hand: httpx, plain dicts, json, sqlite3
ours.py         the same work done by power_loop
startup.py      what a cold start costs
worker.py       one side of one scenario in a process of its own
harness.py      repetitions of both sides in turn, and what comes out
table.py        the table and the JSON form
clients/        the client alone, beside the vendors' SDKs
"""
