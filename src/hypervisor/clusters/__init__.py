"""Clusters and their nodes: what there is to run on, and how it may change while work runs on it.

This domain knows capacity and who may change it. Deployments live above it: what must happen to work on a
node that leaves is asked of `Occupants`, a protocol that the deployments domain implements.
"""
