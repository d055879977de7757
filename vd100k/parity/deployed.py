"""What ``swift deploy`` makes of chat requests: its template without the model, behind the API of vLLM's renderer.

    python -m vd100k.parity.deployed OPTIONS

The options are those of ``swift deploy``; they are parsed, and requests are encoded, by ms-swift's own classes.
"""

from __future__ import annotations

import json
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import msgspec
import numpy as np
import pybase64
from numpy.typing import NDArray

from vd100k.parity import trainer
from vd100k.parity.renderer import HOST, RAW


class Template:
    """ms-swift's template for a server, which encodes for inference with transformers."""

    def __init__(self, argv: list[str]) -> None:
        from swift.arguments import DeployArguments

        self.args, self.processor, self.template = trainer.load(DeployArguments, argv, "transformers")

    def render(self, body: dict[str, Any]) -> dict[str, Any]:
        """The token ids of a prompt and its images, in the form in which vLLM's renderer gives them."""
        from swift.infer_engine.protocol import ChatCompletionRequest

        request, _ = ChatCompletionRequest(model=body["model"], messages=body["messages"]).parse()
        encoded = self.template.encode(request)
        grids = trainer.grids(encoded.get("image_grid_thw"))
        values = encoded.get("pixel_values")
        flat = None if values is None else trainer.as_bytes(values, self.processor)
        images = []
        if flat is not None and grids:
            for grid, part in zip(grids, trainer.split(flat, grids), strict=True):
                images.append(_item(part, np.array(grid, dtype=np.int64)))
        return {"token_ids": encoded["input_ids"], "features": {"kwargs_data": {"image": images}}}

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """The reply to a request; None if the server has no such request."""
        if path == "/v1/chat/completions/render":
            return self.render(body)
        if path == "/tokenize" and body["add_generation_prompt"]:
            return {"tokens": self.render(body)["token_ids"]}
        if path == "/detokenize":
            return {"prompt": self.template.tokenizer.decode(body["tokens"])}
        return None


def _item(patches: NDArray[np.uint8], grid: NDArray[np.int64]) -> str:
    tensors: dict[str, NDArray[Any]] = {"pixel_values": patches, "image_grid_thw": grid}
    fields = {
        name: {"data": [str(one.dtype), list(one.shape), msgspec.msgpack.Ext(RAW, one.tobytes())]}
        for name, one in tensors.items()
    }
    return pybase64.b64encode(msgspec.msgpack.encode(fields)).decode()


def main(argv: list[str]) -> None:
    template = Template(argv)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(HTTPStatus.OK, {})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                reply = template.answer(self.path, body)
            except Exception as error:  # whatever ms-swift's server would answer with an error
                self._send(HTTPStatus.BAD_REQUEST, {"error": {"message": f"{type(error).__name__}: {error}"}})
            else:
                self._send(HTTPStatus.NOT_IMPLEMENTED if reply is None else HTTPStatus.OK, reply or {})

        def _send(self, status: HTTPStatus, content: dict[str, Any]) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

    HTTPServer((HOST, template.args.port), Handler).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
