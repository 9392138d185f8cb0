"""Why something waits: a reason with exact shortfalls, worked out per shape and told per kind."""
