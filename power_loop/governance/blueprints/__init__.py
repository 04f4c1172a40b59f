"""Whole set-ups for one kind of task: tools, a metric and a goal in one extension.

test_fix.py   TestFixBlueprint: a test suite is to be mended
failures.py   PytestFailureMetric: which tests fail, by identity
processes.py  a command in a process group of its own, ended with all that it has begun
bytecode.py   what Python has compiled from a file is removed when the file is changed
"""
