"""What a deployment asks for: submit, update, validate against the cluster, resolve references."""
