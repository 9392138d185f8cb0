"""What every endpoint shares: the container, declared permissions, request models, pages, problems, streams.

Knows HTTP but no domain. Routers of the domains above build on it; the app puts them behind `Edge` and,
inside of it, `RequestMetrics`. Health, readiness and `/metrics` are answered here.
"""
