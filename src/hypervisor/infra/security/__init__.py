"""Secrets: password hashes, signed and random tokens, the installation's key, and sealing at rest."""
