"""Checks of the repository itself. Nothing here is part of the product."""
