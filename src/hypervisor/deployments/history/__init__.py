"""What happened to a deployment: logs, attempts, events, checkpoints, explanations."""
