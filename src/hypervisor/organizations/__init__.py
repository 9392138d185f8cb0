"""Organizations: members, roles and invite codes, and the one place that says who may do what in them."""
