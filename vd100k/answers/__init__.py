"""When two answers say the same: texts, letters, numbers, dates, and the fields of JSON. Pure functions."""
