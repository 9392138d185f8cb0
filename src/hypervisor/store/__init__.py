"""The database: tables (one file per aggregate), sessions, leases, backups and migrations.

Rows and transactions live here; the domains above hold their rules. Nothing here depends on HTTP.
"""
