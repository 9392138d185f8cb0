"""Deployments: the workloads of users, from the request to the history.

Layers from below: `schemas`, `queue`, `access`, `state`, `spec`, `presenter`, `history`, `routes`. Every
change of state by a route or a control loop goes through `state.transitions.move`.
"""
