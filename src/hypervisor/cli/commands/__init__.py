"""One file a command or a group of commands. Commands do not import each other's private parts."""
