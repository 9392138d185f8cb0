"""Stored decisions: snapshot, policy and plan as exact bytes, without an object for each deployment."""
