"""The superusers' window on the tables under /admin/: users can be switched off, everything else is read.

Pages come from starlette-admin with files of the package; no page asks any other server for anything.
"""
