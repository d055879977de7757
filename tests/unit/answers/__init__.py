"""When two answers say the same."""
