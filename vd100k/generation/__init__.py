"""Asks a model about images: work items, scheduling, requests, and the ledger of results."""
