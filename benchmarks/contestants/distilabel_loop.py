"""distilabel, tuned for throughput: ``TextGenerationWithImage`` over ``OpenAILLM`` in a local ``Pipeline``.

``AsyncLLM._agenerate`` processes one batch at a time, so ``input_batch_size`` limits the requests in flight. It is set
to IN_FLIGHT. So is the loader's ``batch_size`` (default 50), so that one batch of the loader is one batch of the step.
The step has one replica: two and four, with IN_FLIGHT divided among them and the same loader, were slower.
``Describe`` reads each image just before its request, as ``Task.format_input`` allows, so that paths instead of images
pass through the queues and the cache. ``add_raw_input`` of ``Task`` is off, because it stores each request with its
image. The log level is WARNING (``envs.py``), because lower levels log each request. Retries (6) and the timeout
(120 s) are the defaults of ``OpenAILLM``. ``cache_dir`` is beside OUTPUT and ``use_cache`` is on, so that a rerun
should resume.

    python distilabel_loop.py URL FOLDER OUTPUT IN_FLIGHT
"""

from __future__ import annotations

import base64
import json
import os
import sys
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DISTILABEL_LOG_LEVEL": "WARNING"}

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGenerationWithImage


class Describe(TextGenerationWithImage):
    """Reads an image just before its request, so that only paths are passed between the processes."""

    def _transform_image(self, image: str) -> str:
        return f"data:image/jpeg;base64,{base64.b64encode(Path(image).read_bytes()).decode()}"


def main(url: str, folder: str, output: str, in_flight: str) -> None:
    paths = sorted(Path(folder).glob("*.jpg"))
    rows = [{"id": path.name, "instruction": "Describe the image.", "image": str(path)} for path in paths]
    size = int(in_flight)
    with Pipeline("describe", cache_dir=f"{output}.distilabel", enable_metadata=False) as pipeline:
        load = LoadDataFromDicts(name="load", data=rows, batch_size=size)
        describe = Describe(
            name="describe",
            llm=OpenAILLM(model="m", base_url=url, api_key="none", generation_kwargs={"max_new_tokens": 64}),
            input_batch_size=size,
            add_raw_input=False,
        )
        load.connect(describe)
    answers = pipeline.run(use_cache=True)["default"]["train"]
    with Path(output).open("w") as file:
        file.writelines(json.dumps({"id": row["id"], "answer": row["generation"]}) + "\n" for row in answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
