"""The command line before Hydra reads it, and the errors that Hydra raises about it."""
