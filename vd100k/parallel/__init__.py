"""Work for all cores: a function applied to many items by several processes."""
