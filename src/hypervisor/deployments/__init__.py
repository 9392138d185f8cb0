"""Deployments: what people want to run, from the request to its history.

From below: `schemas`, `queue`, `access`, `state`, `spec`, `presenter`, `history`, `routes`. Every change of
state goes through `state.transitions.move`, whether a route or a control loop asks for it.
"""
