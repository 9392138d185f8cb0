"""The history of a deployment: logs, attempts, events, checkpoints, explanations."""
