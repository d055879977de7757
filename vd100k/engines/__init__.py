"""Other programs: their command lines, child processes, model folders, hubs and servers."""
