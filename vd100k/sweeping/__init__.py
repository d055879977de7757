"""The jobs of a sweep on the machines of a cluster: what each needs, where it runs, and what became of it."""
