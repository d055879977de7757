"""The client of OpenAI-compatible servers: requests, prompts, the endpoint pool, and readers of replies."""
