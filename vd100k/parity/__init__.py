"""Whether a model is trained on what it is served: rows as ms-swift encodes them, and as the server does."""
