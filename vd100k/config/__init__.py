"""The typed run: its schema, and the parser that turns a composed configuration into it or reports every problem."""
