"""Changes of state: the transitions, the commands that ask for them, dependencies, stops and drains."""
