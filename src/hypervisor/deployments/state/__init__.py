"""Changes of state: transitions, commands, dependencies, stops and drains."""
