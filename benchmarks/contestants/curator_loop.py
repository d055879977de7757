"""Bespoke Curator, tuned for throughput: an ``LLM`` subclass on the online OpenAI backend.

The settings are documented in ``curator.LLM`` and ``OnlineRequestProcessorConfig``. ``max_concurrent_requests`` is the
semaphore that limits the requests in flight. The limits of requests and tokens per minute, which default to guesses
from ``_default_rate_limits.json``, are set so high that ``OnlineStatusTracker.has_capacity`` never waits. Images are
given by local path (``types.Image(url=...)``), which the processor reads and encodes just before sending; image
content would also be written to the file of requests. ``batch`` stays off, because it is for providers' batch APIs.
Retries (10) and ``require_all_responses`` have their defaults. The plain display replaces the rich one, telemetry is
off, and litellm uses its local cost map. ``working_dir`` is beside OUTPUT, and the same command resumes from it.

    python curator_loop.py URL FOLDER OUTPUT IN_FLIGHT
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ |= {"TELEMETRY_ENABLED": "false", "CURATOR_DISABLE_RICH_DISPLAY": "1"}
os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "HF_HUB_OFFLINE": "1"}

import litellm.litellm_core_utils.default_encoding  # noqa: F401 - points tiktoken to the encodings in litellm
from bespokelabs import curator
from datasets import Dataset

UNLIMITED = 10**9  # per minute


class Describe(curator.LLM):
    def prompt(self, input: dict[str, str]) -> tuple[str, curator.types.Image]:
        return "Describe the image.", curator.types.Image(url=input["path"])

    def parse(self, input: dict[str, str], response: str) -> dict[str, str]:
        return {"id": input["id"], "answer": response}


def main(url: str, folder: str, output: str, in_flight: str) -> None:
    rows = [{"id": path.name, "path": str(path)} for path in sorted(Path(folder).glob("*.jpg"))]
    limits = {
        "max_concurrent_requests": int(in_flight),
        "max_requests_per_minute": UNLIMITED,
        "max_tokens_per_minute": UNLIMITED * 1000,
    }
    server = {"base_url": url, "api_key": "none"}
    llm = Describe("m", backend="openai", generation_params={"max_tokens": 64}, backend_params=server | limits)
    answers = llm(Dataset.from_list(rows), working_dir=f"{output}.curator").dataset
    with Path(output).open("w") as file:
        file.writelines(json.dumps({"id": row["id"], "answer": row["answer"]}) + "\n" for row in answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
