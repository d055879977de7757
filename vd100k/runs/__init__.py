"""What a run leaves behind: its summary, report page and charts, the table of a sweep, and W&B tracking."""
