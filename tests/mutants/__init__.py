"""Defects planted on purpose: each must be caught by a narrow part of the suite. `make mutants` shows it."""
