"""Deployments: what people want run, from the request to its history.

Every change of state goes through `transitions.move`; who asks for it (a route here, a loop in `control`)
makes no difference. What clusters need done to work that stands in their way is in `occupants`.
"""
