"""The life of a deployment as pure functions: legal edges, what to do next, how an end is judged.

No I/O and no clock; `now` and randomness are arguments. A "no" is a value with a reason.
"""
