"""Reading and writing files: JSONL, tables, append-only logs, atomic writes, hashes, and hiding of secrets."""
