"""Two schedulers and two API replicas under load, one of each killed again and again: `make replicas`.

`crowd` is the people who ask, `show` the blows and what came of them.
"""
