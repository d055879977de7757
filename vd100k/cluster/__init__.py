"""Several machines of a Ray cluster: replicas are placed on them, watched, and used again after a machine was lost."""
