"""Clusters, their nodes and their shares: capacity, and its changes while work runs on it.

Deployments are a layer above. This domain stops or moves work only through `Occupants`, a protocol that the
deployments domain implements.
"""
