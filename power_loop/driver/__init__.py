"""The one real implementation of the pipeline's ports: event loop, model, tools, store, readers.

dispatch.py   registration and running of hook handlers
hub.py        events to readers
committer.py  records to the store, in order, once
ports.py      the ports themselves
run.py        one run from its opening to its close
"""
