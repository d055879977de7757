"""A web page of Gradio: what it needs, and how it is served."""
