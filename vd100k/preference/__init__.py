"""Which of two answers about the same image a judge prefers."""
