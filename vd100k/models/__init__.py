"""Models as files: their folders, which may ask to run code, and their weights."""
