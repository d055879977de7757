"""Model servers: checks before a start, replicas and their supervision, and nginx."""
