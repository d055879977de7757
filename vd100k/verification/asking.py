"""The questions that verify answers, and the runs that ask them.

A question is asked in the way of ``stage=generate`` with a file of questions: so it is asked exactly once, a run
resumes, machines share it, and what was asked differently before is never mixed with it. The same question is asked
several times under different numbers, which the prompt leaves out: "[2] Describe this image."
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

from vd100k.config.run import Run, Task
from vd100k.conversion.formats import OPTIONS
from vd100k.io import jsonl
from vd100k.io.jsonl import Row
from vd100k.llm import prompts

WITHOUT_NUMBER = "{{ question.split('] ', 1)[-1] }}"  # a template of what is sent
REPEATED_AT = 0.7  # the temperature if the task asks at 0, where the answers would be the same
KEPT = ("image_sha256", "image_mtime_ns", "image_etag")  # a question about an image that has changed since is not asked

# What is sent about a row; None if the row cannot be verified in this way.
Prompt = Callable[[Row], str | None]


def numbered(prompt: str, number: int) -> str:
    """The question under which a prompt is asked for the ``number``-th time, from 0."""
    return f"[{number}] {prompt}"


def folder(rows: Path) -> Path:
    """The folder of the questions and replies that verify the rows in a file."""
    return rows.with_name(f"{rows.stem}.verify")


def verified_rows(run: Run) -> Iterator[Row]:
    """The rows to verify: those with an image, an id, a question and an answer, at most ``limit``.

    The question of a later turn of a conversation begins with the turns before it: ``asked`` is what to ask.
    """
    rows = (row for _, row in jsonl.read(run.paths.rows) if isinstance(row, dict) and _is_whole(row))
    earlier: dict[str, str] = {}  # the turns so far, by id
    for row in islice(rows, run.limit):
        before = earlier.get(row["id"], "") if row.get("turn", 1) != 1 else ""
        row["asked"] = f"{before}{row['question']}"
        if "turn" in row:
            earlier[row["id"]] = f"{row['asked']}\n{row['answer']}\n\n"
        yield row


def _is_whole(row: Row) -> bool:
    has_image = bool(row.get("image") or row.get("images"))
    return has_image and all(isinstance(row.get(key), str) for key in ("id", "question", "answer"))


def asking(run: Run, name: str, task: Task, samples: int) -> Run:
    """The part of a run that asks the questions of ``task``, each ``samples`` times; its replies have their own file.

    The file is named after the way of verification and the model that is asked.
    """
    part = run.parts[name]
    files = folder(run.paths.rows)
    changed = {
        "prompt": WITHOUT_NUMBER,
        "question": None,
        "questions": files / f"{name}-{part.model.name}.questions.jsonl",
    }
    paths = part.paths.model_copy(update={"rows": files / f"{name}-{part.model.name}.jsonl"})
    return part.model_copy(
        update={
            "task": task.model_copy(update=changed),
            "paths": paths,
            "limit": None,  # it counts rows, and is applied to them
            "sample": None,  # it was drawn when the rows were made
            "preview": run.preview and run.preview * samples,
        }
    )


def write_questions(part: Run, rows: Iterable[Row], prompt: Prompt, samples: int) -> int:
    """Write the file of questions of a part made by ``asking``; return how many there are."""
    count = 0

    def questions() -> Iterator[Row]:
        nonlocal count
        for row in rows:
            if (text := prompt(row)) is not None:
                facts = {key: row[key] for key in KEPT if key in row}
                for number in range(samples):
                    count += 1
                    yield {"id": row["id"], "question": numbered(text, number), **facts}

    path = part.task.questions
    assert path is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    jsonl.write(path, questions())
    return count


def again(run: Run) -> tuple[Task, Prompt]:
    """The task that asks the question of a row again, and its prompt: the same words as before."""
    task, settings = run.task, run.verify.agreement
    assert settings is not None
    sampling = {key: value for key, value in task.sampling.items() if key != "seed"} | {"temperature": temperature(run)}

    def prompt(row: Row) -> str:
        if all(isinstance(row.get(option), str) for option in OPTIONS):
            options = [f"{option[-1]}. {row[option]}" for option in OPTIONS]
            return "\n".join([row["question"], *options, settings.texts[task.language]])
        if "turn" in row:
            return str(row["asked"])
        return prompts.text(task, row["question"] if task.questions else None)

    reader = "text" if task.reader == "choice" else task.reader
    return task.model_copy(update={"sampling": sampling, "reader": reader}), prompt


def temperature(run: Run) -> float:
    """The temperature at which questions are asked again."""
    settings = run.verify.agreement
    if settings and settings.temperature is not None:
        return settings.temperature
    return float(run.task.sampling.get("temperature") or REPEATED_AT)
