"""The `hypervisor` command: Typer commands on top of the SDK.

`main` holds the table of commands and loads the module of a command only when it is called, so that the help
and shell completion stay quick. Nothing here reads the database; the commands that need the server's own
modules are in `server` (serve, migrate, create-superuser), `backups` (backup, restore) and `doctor`.
"""
