"""Self-contained HTML pages: their parts as plain data, and the one look that they share."""
