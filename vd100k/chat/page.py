"""The Gradio page of stage=chat: takes images, questions and sampling options, shows a streamed answer and boxes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr
from openai import OpenAI, OpenAIError

from vd100k.boxes import frames
from vd100k.chat import conversation
from vd100k.config.run import Run
from vd100k.images.encode import ImageError
from vd100k.images.resizing import SizeRule


def build(run: Run, client: OpenAI, models: list[str]) -> gr.Blocks:
    """The page for a server with these ``models``. The task of the run sets the defaults."""
    sampling, rule = dict(run.task.sampling), SizeRule.of(run.model)
    # A null option is one that the model does not accept.
    frame = frames.of(run.model)
    sliders = {name: slider for name, slider in _sliders(sampling).items() if sampling.get(name, 0) is not None}
    fixed = {name: value for name, value in sampling.items() if name not in sliders and value is not None}

    def answer(
        message: dict[str, Any], history: list[conversation.Message], model: str, system: str, *chosen: float
    ) -> Iterator[list[Any]]:
        turns = [*history, _turn(message)]
        text = ""
        try:
            sent = conversation.messages(turns, system, rule)
            # As extra_body, because servers also accept options that the client does not know.
            options = fixed | dict(zip(sliders, chosen, strict=True))
            for text in conversation.stream(client, {"model": model, "messages": sent, "extra_body": options}):
                yield [conversation.as_shown(text)]
            drawn = conversation.drawn(text, turns, frame)
        except (ImageError, OpenAIError) as error:
            yield [conversation.as_shown(text), _failed(error)]
        else:
            if drawn:
                below = gr.Image(drawn, format="png", show_label=False, interactive=False)
                yield [conversation.as_shown(text), below]

    settings = [
        gr.Dropdown(list(dict.fromkeys([run.served_name, *models])), label="Model"),
        gr.Textbox(run.task.system_prompt or "", label="System prompt", lines=2),
        *sliders.values(),
    ]
    return gr.ChatInterface(
        answer,
        multimodal=True,
        title=run.served_name,
        chatbot=gr.Chatbot(show_label=False, render_markdown=False, scale=1, buttons=[], reasoning_tags=[]),
        textbox=gr.MultimodalTextbox(
            file_types=["image"], file_count="multiple", placeholder="Add images and ask a question", show_label=False
        ),
        additional_inputs=settings,
        additional_inputs_accordion=gr.Accordion("Settings", open=False),
        analytics_enabled=False,
        concurrency_limit=None,
        delete_cache=(3600, 86_400),
        api_visibility="private",
    )


def _sliders(sampling: dict[str, Any]) -> dict[str, gr.Slider]:
    """The sliders of the sampling options that the page offers, by the option's name in a request."""
    most = "max_completion_tokens" if "max_completion_tokens" in sampling else "max_tokens"
    tokens = sampling.get(most) or 1024
    return {
        "temperature": gr.Slider(0, 2, sampling.get("temperature", 1.0), step=0.05, label="Temperature"),
        "top_p": gr.Slider(0.05, 1, sampling.get("top_p", 1.0), step=0.05, label="Top p"),
        most: gr.Slider(1, max(8192, tokens), tokens, step=1, label="Max tokens"),
    }


def _failed(error: Exception) -> conversation.Message:
    """An error message for the page. Its title makes ``conversation`` leave it out of later requests."""
    return conversation.as_shown(str(error)) | {"metadata": {"title": "No answer"}}


def _turn(message: dict[str, Any]) -> conversation.Message:
    """The new text and files, in the form of a turn of the history."""
    files = [{"type": "file", "file": {"path": path}} for path in message["files"]]
    return {"role": "user", "content": [*files, {"type": "text", "text": message["text"]}]}
