"""The web page of stage=chat: the conversation, the boxes in answers, and the Gradio page itself."""
