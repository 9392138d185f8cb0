"""The specification of a deployment: submit, update, validate against the cluster, resolve references."""
