"""The `hypervisor` command: Typer commands on top of the SDK.

`main` has the table of commands. It imports the module of a command when the command is called, so help and
shell completion stay fast. `commands` has one file or folder per command or group; `doctor` and `demo` are
larger commands in separate folders. `core` has the code that several commands use. Only `serve`, `migrate`,
`create-superuser`, `backup`, `restore` and `doctor` import the server's modules, and `simulate` and `replay`
the scheduler. All other commands use the public API through the SDK.
"""
