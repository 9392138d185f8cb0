"""Users and their logins: registration, passwords, sessions, tokens, and the caller of a request.

A principal holds the roles of a user in organizations. `organizations` grants them.
"""
