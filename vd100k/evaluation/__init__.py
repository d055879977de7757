"""What an evaluation asks, what is correct, and how close the answers are."""
