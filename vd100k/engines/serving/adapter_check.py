"""Whether fine-tuning changed anything: a LoRA without effect trains, merges and serves without an error."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from vd100k.config.run import Run
from vd100k.engines.serving.http_api import api_key, request_json
from vd100k.errors import DataError
from vd100k.images import encode as images
from vd100k.images.groups import names
from vd100k.images.resizing import SizeRule
from vd100k.io import hub as hubs
from vd100k.io.jsonl import read_rows
from vd100k.llm import prompts
from vd100k.models import safetensors_header as tensors

REQUESTS = 4  # to each of the two models
TIMEOUT_S = 30.0  # of one request, and of the whole comparison before its last pair
SAMPLE = 4096  # bytes, from the middle of a tensor


def describe_effect(run: Run, url: str) -> str | None:
    """A sentence on how the tuned weights served at ``url`` differ from the base; None if that is unknown."""
    try:
        if run.weights == "adapter":
            return _compare_answers(run, url)
        if run.weights == "merged" and (base := _base(run)):
            return _compare_weights(base, run.paths.merged)
    except (OSError, ValueError, DataError) as error:
        return f"The base and the tuned model could not be compared: {error}"
    return None


def _base(run: Run) -> Path | None:
    """The folder of the base model, which may be in the cache of the hub; None if there is none."""
    return hubs.folder(run.model.source, run.model.path or "")


def _compare_answers(run: Run, url: str) -> str | None:
    """Send the same requests to the base and the adapter, without sampling, and compare the answers."""
    names = run.served_names["base"], run.served_names["adapter"]
    until, answered = time.monotonic() + TIMEOUT_S, []
    for image, question in islice(_questions(run), REQUESTS):
        base, tuned = (_answer(run, url, name, image, question) for name in names)
        if base is not None and tuned is not None:
            answered.append((base, tuned))
        if time.monotonic() > until:
            break
    if not answered:
        return None
    differ = sum(base != tuned for base, tuned in answered)
    if differ:
        return f"{names[1]} answers {differ} of {len(answered)} questions differently from {names[0]}."
    return (
        f"WARNING: {names[1]} answers all {len(answered)} questions exactly like {names[0]}: the adapter at "
        f"{run.paths.adapter} seems to have no effect."
    )


def _questions(run: Run) -> Iterator[tuple[list[bytes], str | None]]:
    """Images from the generated rows with their questions; one grey image if there are no rows."""
    found = False
    for row in read_rows(run.paths.rows):
        with contextlib.suppress(images.ImageError):
            urls = [images.encode(name, SizeRule.of(run.model)).url for name in names(row)]
            found = True
            yield urls, str(row["question"])
    if not found:
        yield [images.TINY], run.task.question


def _answer(run: Run, url: str, name: str, urls: list[bytes], question: str | None) -> str | None:
    sampling = run.task.sampling | {"temperature": 0, "max_tokens": 64}
    prompt = run.task.prompt if question is None else "{{ question }}"
    task = run.task.model_copy(update={"prompt": prompt, "sampling": sampling, "json_schema": None})
    body = prompts.filled(prompts.body(task, name, question, len(urls)), ((image,) for image in urls))
    reply = request_json(f"{url}/chat/completions", api_key(run), TIMEOUT_S, body)
    with contextlib.suppress(KeyError, TypeError, IndexError):
        return str(reply["choices"][0]["message"]["content"])
    return None


def _compare_weights(base: Path, merged: Path) -> str | None:
    """Compare samples of all tensors; None if no tensor has the same name and number type in both folders."""
    before, after = dict(_samples(base)), dict(_samples(merged))
    common = [name for name in before.keys() & after.keys() if before[name][0] == after[name][0]]
    if not common:
        return None
    differ = sum(before[name] != after[name] for name in common)
    if differ:
        return f"{differ} of {len(common)} tensors differ from the base model."
    return f"WARNING: all {len(common)} tensors of {merged} equal those of {base}: the adapter seems to have no effect."


def _samples(folder: Path) -> Iterator[tuple[str, tuple[str, bytes]]]:
    """The name of each tensor, with its number type and some of its bytes."""
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            for name, (dtype, begin, end) in tensors.read(path).items():
                file.seek(begin + max(0, (end - begin - SAMPLE) // 2))
                yield name, (dtype, file.read(min(SAMPLE, end - begin)))
