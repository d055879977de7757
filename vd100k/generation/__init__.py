"""Asks a model about images or rows: work items, scheduling, requests, and the ledger of results."""
