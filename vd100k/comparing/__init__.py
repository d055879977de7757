"""Several runs beside each other: the table of a sweep, the settings that differ, and what is within noise."""
