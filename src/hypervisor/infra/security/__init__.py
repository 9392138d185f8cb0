"""Password hashes, signed and random tokens, the installation's key, and encryption at rest."""
