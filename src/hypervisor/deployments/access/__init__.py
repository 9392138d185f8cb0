"""Who may see a deployment, and the queries that find deployments."""
