"""The servers that run: a file for each, by which any shell and any machine shows, reads and stops them."""
