"""The `hypervisor` command: Typer commands on top of the SDK.

`main` holds the table of commands and loads the module of a command when it is called, so that help and shell
completion stay fast. `commands` holds the commands, `core` what they share. `doctor` and `demo` are commands
with rooms of their own. Only `serve`, `migrate`, `create-superuser`, `backup`, `restore` and `doctor` use the
server's own modules; all other commands use the public API.
"""
