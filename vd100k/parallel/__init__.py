"""Work for several processes or threads: a function applied to many items, or called again and again."""
