"""Model servers: what is checked before one starts, starting and watching them, nginx, and finding them again."""
