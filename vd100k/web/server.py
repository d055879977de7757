"""Serves a page of Gradio; imported only after ``address.prepare_gradio``."""

from __future__ import annotations

import contextlib
import hmac
import os
from collections.abc import Iterator

import gradio as gr

from vd100k.config.stages import WebPage

CSS = 'button[aria-label="Share"] { display: none }'  # it would upload the image to a website
LARGEST = "64mb"  # an uploaded image; the same limit as for a request's body
# Gradio's default theme with system fonts, so that the page loads nothing from other sites.
THEME = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


@contextlib.contextmanager
def opened(stage: WebPage, page: gr.Blocks, css: str = "", head: str = "") -> Iterator[None]:
    """Serve the page while the block runs, behind a password if ``stage.password_env`` is set.

    ``css`` and ``head`` (HTML, such as a script) are added to the page.
    """
    secret = os.environ[stage.password_env] if stage.password_env else None

    def may_enter(user: str, password: str) -> bool:
        return hmac.compare_digest(password.encode(), str(secret).encode())

    page.launch(
        server_name=stage.host,
        server_port=stage.port,
        auth=may_enter if secret else None,
        auth_message="Enter any user name and the password.",
        share=False,
        max_file_size=LARGEST,
        theme=THEME,
        css=CSS + css,
        head=head or None,
        footer_links=[],
        ssr_mode=False,
        prevent_thread_lock=True,
        quiet=True,
    )
    try:
        yield
    finally:
        page.close(verbose=False)
