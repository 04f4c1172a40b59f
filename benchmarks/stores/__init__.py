"""The durable stores beside their bare drivers.

figures.py   what is measured, and in which size
bare.py      the same inserts by sqlite3 and psycopg alone
ours.py      SQLiteStore and PostgresStore
servers.py   a PostgreSQL server that is there for the measurement
table.py     the rows for people, and for programs
worker.py    one part of one side, in a process of its own
"""
