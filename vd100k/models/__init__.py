"""Models as files: their folders, which may ask to run code, their weights, and the hubs that they come from."""
