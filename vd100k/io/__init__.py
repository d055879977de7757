"""Reading and writing files: JSONL, tables, logs, atomic writes, hashes, secrets hidden, and model hubs."""
