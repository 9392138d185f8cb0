"""People and their logins: registration, passwords, sessions, tokens, and who is calling.

Roles in organizations are read here (a principal carries its memberships), but granted in `organizations`.
"""
