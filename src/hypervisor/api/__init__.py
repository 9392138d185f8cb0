"""The base of every endpoint: services, permissions, base schemas, pagination, problems, streams.

Depends on HTTP and on no domain. The routers of the domains build on it. The app wraps them in
`ProtocolMiddleware` and, inside of that, `RequestMetrics`. Health, readiness and `/metrics` are served here.
"""
