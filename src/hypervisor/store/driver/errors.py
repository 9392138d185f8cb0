"""The error of a database that cannot be used now, as opposed to one that refused a statement."""

from __future__ import annotations


class DatabaseUnreachable(ConnectionError):
    """No connection can be opened, or the file is gone. Nothing was changed."""
