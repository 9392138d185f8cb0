"""DATABASE_URL for the drivers: the only code that reads it, and that opens engines and connections.

A PostgreSQL URL is written as for libpq: each parameter is translated for asyncpg, or refused by name.
"""
