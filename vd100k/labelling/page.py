"""The Gradio page of stage=label: shows one row after another, and takes its label from a key or a button."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import gradio as gr

from vd100k.errors import DataError
from vd100k.labelling.labels import answer_text
from vd100k.labelling.view import View

CSS = (files("vd100k.labelling") / "page.css").read_text(encoding="utf-8")
HEAD = f"<script>{(files('vd100k.labelling') / 'keys.js').read_text(encoding='utf-8')}</script>"
# What the browser sends with a label: the row that it shows, and the correction as it stands now.
SEND = "() => labelling.seen()"
WAITING = "waiting"  # instead of a row, if it has sent a label of this row a moment ago
EDIT = "Corrected answer (optional): e to edit, Ctrl+Enter to save it as wrong, Esc to leave"

Shown = tuple[str, Any]  # the row as HTML, and its answer in the field for corrections


def build(view: View) -> gr.Blocks:
    """The page, which can be open several times; every tab sends the row that its label is about."""
    session = view.session

    def show(number: int | None, notice: str = "") -> Shown:
        if number is None:
            return view.page(None, notice), ""
        drawn = session.sample[number]
        before = session.ledger.of(drawn)
        return view.page(number, notice), (before and before.corrected) or answer_text(drawn.row["answer"])

    def label(right: bool | None) -> Any:
        def save(seen: str, edited: str) -> Shown:
            number = _number(seen, len(session.sample))
            if number is None:  # no row is shown, or WAITING
                return gr.skip(), gr.skip()
            try:
                session.label(number, right, edited)
            except ValueError as error:
                return view.page(number, str(error)), edited
            except DataError as error:
                return view.page(number, f"The label is not saved. {error}"), edited
            return show(session.next_open(number))

        return save

    def back(seen: str, edited: str) -> Shown:
        if seen == WAITING:
            return gr.skip(), gr.skip()
        number = _number(seen, len(session.sample))
        return show(max(0, (len(session.sample) if number is None else number) - 1))

    with gr.Blocks(title="Labels", analytics_enabled=False) as page:
        row = gr.HTML(elem_id="row")
        with gr.Row(elem_id="keys"):
            buttons = {
                gr.Button("Right (r, →)", variant="primary", elem_id="key-right"): label(True),
                gr.Button("Wrong (w)", variant="stop", elem_id="key-wrong"): label(False),
                gr.Button("Skip (s)", elem_id="key-skip"): label(None),
                gr.Button("Back (u, ←)", elem_id="key-back"): back,
            }
        edited = gr.Textbox(label=EDIT, lines=2, max_lines=6, elem_id="corrected")
        seen = gr.Textbox(visible=False)
        for button, act in buttons.items():
            button.click(
                act,
                [seen, edited],
                [row, edited],
                js=SEND,
                show_progress="hidden",
                queue=False,
                api_visibility="private",
            )
        page.load(
            lambda: show(session.next_open()), None, [row, edited], show_progress="hidden", api_visibility="private"
        )
    return page


def _number(seen: str, rows: int) -> int | None:
    """The number of the row that a tab showed; None if it showed none."""
    number = seen.partition(".")[0]
    return int(number) if number.isdecimal() and int(number) < rows else None
