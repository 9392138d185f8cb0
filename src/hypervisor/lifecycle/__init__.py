"""The lifecycle of a deployment as pure functions: legal edges, next actions, conclusions of ended attempts.

No I/O and no clock: `now` and randomness are arguments. A refusal is a value with a reason.
"""
