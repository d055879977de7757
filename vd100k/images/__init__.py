"""Finds, checks, resizes and encodes images."""
