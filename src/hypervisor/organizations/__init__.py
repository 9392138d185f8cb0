"""Organizations: members, roles and invite codes, and the access rules of everything that belongs to one."""
