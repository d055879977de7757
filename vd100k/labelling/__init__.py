"""Which answers are right: the labels of people, and what they say about rows together."""
