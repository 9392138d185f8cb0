"""Defects planted on purpose. Each must be caught by a narrow part of the suite; `make mutants` checks it."""
