"""The ledger of a generation: rows on disk, what decided them, and whose images they are about."""
