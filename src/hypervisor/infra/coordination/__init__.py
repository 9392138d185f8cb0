"""State that the servers of one installation share beside the database: hints, queue index, site names.

The backend is Redis or Valkey if configured, else PostgreSQL's LISTEN and NOTIFY (hints only), else memory.
The database is the truth: a loss of this state costs only speed.
"""
