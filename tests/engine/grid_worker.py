"""Prints what ms-swift trains on, and what a server sees of the same images: ``python -m tests.engine.grid_worker``.

Each has an environment of its own, because qwen_vl_utils reads its bounds from environment variables once.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from swift.model import get_processor
from swift.template import get_template
from transformers import AutoProcessor

from vd100k.images.encode import encode
from vd100k.images.resizing import SizeRule


def main(request: dict[str, Any]) -> None:
    folder, options, system = request["folder"], request["options"], request["system"]
    processor = get_processor(folder, model_type=request["model_type"])
    template = get_template(processor, template_type=request["template"], default_system=system, **options)
    template.set_mode("train")
    served = AutoProcessor.from_pretrained(folder).image_processor
    found = []
    for row in request["rows"]:
        trained = template.encode(row)
        sent = [encode(path, SizeRule(*request["rule"])).base64 for path in row["images"]]
        images = [Image.open(io.BytesIO(base64.b64decode(content))) for content in sent]
        seen = served(images=images, return_tensors="pt", **request["server"])["image_grid_thw"].tolist()
        ids = trained["input_ids"]
        found.append([trained["image_grid_thw"].tolist(), seen, len(ids), template.tokenizer.decode(ids[-3:])])
    print("FOUND" + json.dumps(found))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
