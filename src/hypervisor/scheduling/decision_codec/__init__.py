"""Decisions kept for later: snapshot, policy and plan as bytes, exactly, without an object per deployment."""
