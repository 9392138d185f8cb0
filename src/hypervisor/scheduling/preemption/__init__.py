"""Who must yield: which evictions are legal, what they cost, and the cheapest set that makes the room.

`legality` is the one rule; `cheapest` serves clusters of one organization, `careful` and `gathering` those
where it matters whose work it is. `reservations` keeps the room for whom it was made.
"""
