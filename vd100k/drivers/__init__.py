"""A generation by several drivers on the machines of a cluster, each with slices of the images."""
