"""What a run leaves behind: its summary, report page and charts, and W&B tracking."""
