"""Who is considered first: the total order over a queue, and what each organization's share does to it."""
