"""The networks: torch modules that take and return raw tensors, named as the published tensors are."""
