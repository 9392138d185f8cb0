"""The truth: tables (one file an aggregate), sessions, leases and migrations.

Rows and transactions live here; rules about them live in the domains above. Nothing here knows of HTTP.
"""
