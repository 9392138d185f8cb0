"""Requests, responses, field types and list filters of deployments."""
