"""Whether fine-tuning changed anything: a LoRA without effect trains, merges and serves without a word."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from vd100k.config.run import Run
from vd100k.engines import hub as hubs
from vd100k.engines import safetensors_header as tensors
from vd100k.engines.serving.fleet import key_of, said_at
from vd100k.errors import DataError
from vd100k.images import encode as images
from vd100k.io.jsonl import read_rows
from vd100k.llm import prompts

ASKED = 4
TIMEOUT_S = 30.0  # of an answer, and after which no more is asked
SAMPLE = 4096  # bytes, from the middle of a tensor


def of(run: Run, url: str) -> str | None:
    """In words, what the tuned weights that answer at ``url`` do differently; None if that cannot be told."""
    try:
        if run.weights == "adapter":
            return _of_adapter(run, url)
        if run.weights == "merged" and (base := _base(run)):
            return _of_merge(base, run.paths.merged)
    except (OSError, ValueError, DataError) as error:
        return f"Base and tuned model could not be compared: {error}"
    return None


def _base(run: Run) -> Path | None:
    """The folder of the base's weights, the hub's cache among them."""
    path = Path(run.model.path or "")
    return path if path.is_dir() else hubs.cached(run.model.source, str(path))


def _of_adapter(run: Run, url: str) -> str | None:
    """Base and adapter are asked the same, without sampling."""
    names = run.served_names["base"], run.served_names["adapter"]
    until, answered = time.monotonic() + TIMEOUT_S, []
    for image, question in islice(_requests(run), ASKED):
        base, tuned = (_answer(run, url, name, image, question) for name in names)
        if base is not None and tuned is not None:
            answered.append((base, tuned))
        if time.monotonic() > until:
            break
    if not answered:
        return None
    differ = sum(base != tuned for base, tuned in answered)
    if differ:
        return f"{names[1]} answers {differ} of {len(answered)} questions otherwise than {names[0]}."
    return (
        f"WARNING: {names[1]} answers all of {len(answered)} questions exactly as {names[0]}: the adapter at "
        f"{run.paths.adapter} seems to have no effect."
    )


def _requests(run: Run) -> Iterator[tuple[bytes, str | None]]:
    """Images that it learnt from, with their questions; a grey one where there are none."""
    found = False
    for row in read_rows(run.paths.rows):
        with contextlib.suppress(images.ImageError):
            image = images.encode(str(row["image"]), run.model.max_pixels).url
            found = True
            yield image, str(row["question"])
    if not found:
        yield images.TINY, run.task.question


def _answer(run: Run, url: str, name: str, image: bytes, question: str | None) -> str | None:
    sampling = run.task.sampling | {"temperature": 0, "max_tokens": 64}
    prompt = run.task.prompt if question is None else "{{ question }}"
    task = run.task.model_copy(update={"prompt": prompt, "sampling": sampling, "json_schema": None})
    before, after = prompts.body(task, name, question)
    reply = said_at(f"{url}/chat/completions", key_of(run), TIMEOUT_S, before + image + after)
    with contextlib.suppress(KeyError, TypeError, IndexError):
        return str(reply["choices"][0]["message"]["content"])
    return None


def _of_merge(base: Path, merged: Path) -> str | None:
    """The tensors of both, sampled; None where they are of another type or name, so that bytes say nothing."""
    before, after = dict(_samples(base)), dict(_samples(merged))
    common = [name for name in before.keys() & after.keys() if before[name][0] == after[name][0]]
    if not common:
        return None
    differ = sum(before[name] != after[name] for name in common)
    if differ:
        return f"{differ} of {len(common)} tensors are other than the base model's."
    return (
        f"WARNING: all {len(common)} tensors of {merged} are those of {base}: what was merged seems to have no effect."
    )


def _samples(folder: Path) -> Iterator[tuple[str, tuple[str, bytes]]]:
    """The type of each tensor, and some of its bytes."""
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            for name, (dtype, begin, end) in tensors.read(path).items():
                file.seek(begin + max(0, (end - begin - SAMPLE) // 2))
                yield name, (dtype, file.read(min(SAMPLE, end - begin)))
