"""Model servers: checks before a start, replicas and their supervision, nginx, and the registry of running servers."""
