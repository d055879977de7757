"""Trainings: the files that they read, and what ms-swift's log says about them."""
