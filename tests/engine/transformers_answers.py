"""Prints the greedy answers of transformers about images: ``python -m tests.engine.transformers_answers REQUEST``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor


def answers(request: dict[str, Any]) -> list[str]:
    """The answers to one question about each image, without special tokens."""
    folder = request["folder"]
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(folder)
    parts = [{"type": "image"}, {"type": "text", "text": request["question"]}]
    turns = [{"role": "user", "content": parts}]
    text = processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    found = []
    for path in request["images"]:
        inputs = processor(text=[text], images=[Image.open(path)], return_tensors="pt", size=request["size"])
        output = model.generate(**inputs, max_new_tokens=request["tokens"], do_sample=False)
        found.append(processor.decode(output[0][inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    return found


if __name__ == "__main__":
    print("FOUND" + json.dumps(answers(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
