"""The page of stage=chat: what was said on it, the boxes in answers, and Gradio's part."""
