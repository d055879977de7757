"""Checks for combinations of values that cannot work, one function per stage. Each problem comes with its remedy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vd100k.config.model_defaults import NO_MODEL, UNCHOSEN
from vd100k.config.names import check_names
from vd100k.config.run import LOOPBACK, Run
from vd100k.config.server_checks import check_server
from vd100k.config.stages import (
    Chat,
    Compare,
    Convert,
    Evaluate,
    Finetune,
    Generate,
    Label,
    Parity,
    Pipeline,
    Serve,
    WebPage,
)
from vd100k.config.verify_checks import check_verify
from vd100k.io import tables
from vd100k.io.json_schema import check_schema

ASKS_FOR_QUESTION = re.compile(r"\{\{-?\s*question\b")
WITHOUT_DATASET = ("render", "serve", "chat", "report", "compare", "pipeline")  # a pipeline's steps are checked
NEEDS_WEIGHTS = ("finetune", "export", "serve")
WITH_BOXES = ("generate", "convert", "evaluate")
NEEDS_MODEL = (*NEEDS_WEIGHTS, "parity", "generate", "chat", "evaluate")

Problems = Iterator[str]


def check(run: Run, teacher: set[str]) -> Problems:
    """Every impossible combination of a run; ``teacher`` says what was chosen for it: model, hardware."""
    names = {key: getattr(run, key) for key in ("dataset", "answers", "rejected", "asker", "variant")}
    yield from check_names(names | {"task.name": run.task.name, "model.name": run.model.name})
    against = run.verify.agreement.against if run.verify.agreement else []
    yield from check_names({f"verify.agreement.against[{k}]": name for k, name in enumerate(against)})
    yield from _check_selection(run)
    yield from _check_urls(run)
    if run.task.json_schema is not None:
        yield from check_schema(run.task.json_schema, run.task.reader)
    if _needs_model(run) and run.model.name == UNCHOSEN:
        yield NO_MODEL
    if run.task.reader == "boxes" and run.stage.name in WITH_BOXES and run.model.box_notation is None:
        yield (
            f"task={run.task.name} asks for boxes, and it is not known how model={run.model.name} writes them: set "
            "model.box_notation=thousandths-json, or another notation that docs/datasets.md names"
        )
    needs_dataset = run.stage.name not in WITHOUT_DATASET or (run.weights != "base" and run.stage.name != "pipeline")
    if needs_dataset and not run.dataset:
        yield "no data set is chosen: set images=FOLDER (or dataset=NAME for an existing one)"
    if run.stage.name in NEEDS_WEIGHTS or run.weights != "base":
        yield from _check_weights(run)
    if run.stage.name in STAGES:
        yield from STAGES[run.stage.name](run, run.stage, teacher)


def check_asking(run: Run) -> Problems:
    """Every impossible combination of a run that asks about images for an evaluation."""
    yield from _check_urls(run)
    yield from check_server(run)
    if run.weights == "base":
        yield from _check_answering(run, set())
    else:
        yield from _check_weights(run)


def _needs_model(run: Run) -> bool:
    return run.stage.name in NEEDS_MODEL and getattr(run.stage, "action", "start") == "start"


def _check_generate(run: Run, stage: Generate, teacher: set[str]) -> Problems:
    is_list = Path(run.images or "").suffix.lower() in tables.SUFFIXES
    if not (run.task.questions or run.task.turns or is_list) and ASKS_FOR_QUESTION.search(run.task.prompt):
        yield (
            "no source of questions is set: set asker=MODEL, or task.questions=FILE, or name a list of images with a "
            'column "questions"'
        )
    if run.task.questions and run.task.turns:
        yield "task.questions and task.turns are both set: choose one of them"
    if len(set(run.task.turns)) < len(run.task.turns):
        yield "task.turns asks the same question twice: ask each once"
    if run.task.turns and run.task.reader != "text":
        yield f"task.turns is a conversation, whose answers are text, not {run.task.reader}: set task.reader=text"
    if not run.images:
        yield "no images are set: set images=FOLDER, or a .jsonl or .csv list"
    yield from check_server(run)
    if run.weights == "base":
        yield from _check_answering(run, teacher)


def _check_convert(run: Run, stage: Convert, teacher: set[str]) -> Problems:
    for key in {"id", "image", "question", "answer"} ^ stage.columns.keys():
        yield (
            f"{run.key}.columns.{key}: columns must have exactly the keys id, image, question and answer: "
            "set each to the name of a column of the source"
        )
    if stage.turns == "merge" and (run.rejected or stage.products):
        yield f"{run.key}.turns=merge makes conversations, and preference pairs and products have one turn: remove it"
    if (stage.turns == "merge" or stage.text_rows != "reject") and run.format.name == "parquet":
        yield (
            "format=parquet has one question and one answer about images in a row: choose format=swift, or remove "
            f"{run.key}.turns and {run.key}.text_rows"
        )
    if run.answers == UNCHOSEN and stage.source == run.paths.rows and not stage.products:
        yield "no answers are chosen: set answers=MODEL, whose answers are converted"
    roles = {role for product in stage.products for role in (product.answers, product.rejected, product.asker)}
    for role in sorted(role for role in roles if role and role not in stage.models):
        yield f"{run.key}.products uses the name {role}, which {run.key}.models does not define: add it there"
    for k, product in enumerate(stage.products):
        key = f"{run.key}.products[{k}]"
        yield from check_names({f"{key}.{name}": getattr(product, name) for name in ("file", "dataset", "task")})
    yield from check_names({f"{run.key}.models.{name}.model": role.model for name, role in stage.models.items()})


def _check_finetune(run: Run, stage: Finetune, teacher: set[str]) -> Problems:
    side, cap = run.model.token_side, run.model.max_pixels
    if cap % side**2 and cap > side**2:
        yield (
            f"model.max_pixels={cap} is not a whole number of visual tokens, so ms-swift would reduce images to "
            f"another size than the servers do: set model.max_pixels={cap - cap % side**2}"
        )
    if stage.args.get("max_pixels") is not None and stage.env.get("MAX_PIXELS") is not None:
        yield (
            f"{run.key}.args.max_pixels makes ms-swift reduce images in another way than the servers do: "
            f"set model.max_pixels={stage.args['max_pixels']} instead"
        )
    if run.model.quantization:
        yield (
            f"model={run.model.name} has weights quantized as {run.model.quantization}, which can answer but not be "
            "trained and merged: choose the model without quantization to train it"
        )
    if stage.method == "dpo" and not run.rejected:
        yield f"{run.key}.method=dpo trains on preference pairs: set rejected=MODEL, whose answers are the worse ones"
    elif stage.method == "sft" and run.rejected:
        yield f"rejected={run.rejected} makes preference pairs: set {run.key}.method=dpo to train on them"


def _check_parity(run: Run, stage: Parity, teacher: set[str]) -> Problems:
    if run.hardware.urls is None and run.weights == "base":  # of other weights, it has been checked
        yield from _check_weights(run)


def _check_serve(run: Run, stage: Serve, teacher: set[str]) -> Problems:
    if stage.action == "start":
        yield from check_server(run)


def _check_page(stage: WebPage) -> Problems:
    if stage.host not in LOOPBACK and not stage.password_env:
        yield (
            f"stage.host={stage.host} lets in anyone who can reach this machine: set stage.password_env=VARIABLE, "
            "the environment variable with the password of the page"
        )


def _check_label(run: Run, stage: Label, teacher: set[str]) -> Problems:
    yield from _check_page(stage)
    if run.answers == UNCHOSEN and stage.source == run.paths.rows:
        yield "no answers are chosen: set answers=MODEL, whose answers are labelled"
    if stage.labels.suffix.lower() != ".jsonl":
        yield f"{run.key}.labels={stage.labels} is no .jsonl file, to which labels are appended: name one"


def _check_chat(run: Run, stage: Chat, teacher: set[str]) -> Problems:
    yield from _check_page(stage)
    yield from check_server(run)
    if run.weights == "base":
        yield from _check_answering(run, teacher)


def _check_evaluate(run: Run, stage: Evaluate, teacher: set[str]) -> Problems:
    for key in ("images", "labels"):
        if not getattr(stage, key):
            yield (
                f"{run.key}.{key} is missing: set {run.key}.images=FOLDER (held-out images) and "
                f"{run.key}.labels=FILE (their correct answers)"
            )
    if stage.judge and not run.verify.judge:
        yield f"{run.key}.judge=true asks a judge, and none is chosen: add verify=judge (model@judge.model=OPTION)"
    if stage.judge and len(stage.sides) < 2:
        yield f"{run.key}.judge=true compares the answers of two sides: set '{run.key}.sides=[before,after]'"
    others = {f"{run.key}.also[{k}].name": one.name or one.task for k, one in enumerate(stage.also)}
    yield from check_names(others)
    names = [run.task.name, *others.values()]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"{run.key}.also evaluates more than one task as {name}: give each a name of its own (name: other)"
    if run.task.questions or ASKS_FOR_QUESTION.search(run.task.question or run.task.prompt):
        yield (
            f"task={run.task.name} asks a different question about each image, but an evaluation asks one about all "
            "of them: choose another task"
        )


def _check_pipeline(run: Run, stage: Pipeline, teacher: set[str]) -> Problems:
    if len(set(stage.steps)) < len(stage.steps):
        yield f"{run.key}.steps contains a step twice: remove one of the two"
    if "finetune" in stage.steps and run.format.name != "swift":
        yield f"finetune cannot read format={run.format.name}: choose format=swift"


def _check_compare(run: Run, stage: Compare, teacher: set[str]) -> Problems:
    if len(run.runs) < 2:
        yield "runs is missing: set 'runs=[FOLDER,FOLDER]' to the run folders to compare"


STAGES: dict[str, Callable[[Run, Any, set[str]], Problems]] = {
    "generate": _check_generate,
    "verify": check_verify,
    "convert": _check_convert,
    "finetune": _check_finetune,
    "parity": _check_parity,
    "serve": _check_serve,
    "chat": _check_chat,
    "label": _check_label,
    "evaluate": _check_evaluate,
    "pipeline": _check_pipeline,
    "compare": _check_compare,
}


def _check_selection(run: Run) -> Problems:
    for key in ("preview", "shard"):
        if getattr(run, key) and run.stage.name not in ("generate", "verify"):
            yield f"{key}={getattr(run, key)} is for stage=generate and stage=verify only: remove it"
    if run.group and not _is_pattern(run.group):
        yield (
            f"group={run.group} is no regular expression with a part in parentheses: write group=folder, or a pattern "
            "such as group='(.*)_(before|after)'"
        )
    if run.cluster.drivers > 1 and (run.cluster.here or run.shard):
        remedy = "set cluster=ray" if run.cluster.here else "remove shard"
        yield f"cluster.drivers={run.cluster.drivers} share the images on the machines of a cluster: {remedy}"
    if run.cluster.drivers > 1 and run.key == "stage" and run.stage.name not in ("generate", "pipeline"):
        yield f"cluster.drivers={run.cluster.drivers} is for stage=generate, alone or in a pipeline: remove it"
    if run.shard:
        part, parts = map(int, run.shard.split("/"))
        if not 1 <= part <= parts:
            yield f"shard={run.shard}: the first number is the part, from 1 to {parts}"


def _is_pattern(text: str) -> bool:
    try:
        return text == "folder" or re.compile(text).groups > 0
    except re.error:
        return False


def _check_urls(run: Run) -> Problems:
    if run.hardware.urls == []:
        yield "hardware.urls=[] is empty: set 'hardware.urls=[http://HOST:PORT/v1]'"
    for url in run.hardware.urls or []:
        if url and not url.startswith(("http://", "https://")):
            yield f"hardware.urls contains {url}, which is not a URL such as http://HOST:PORT/v1"


def _check_weights(run: Run) -> Problems:
    """A stage that loads weights needs them, and a machine."""
    if not _needs_model(run) and run.stage.name in NEEDS_WEIGHTS:
        return
    if not run.model.path and run.model.name != UNCHOSEN:
        yield (
            f"stage={run.stage.name} needs weights, and model={run.model.name} is only reached through an API: "
            "choose another, such as qwen2-vl-2b"
        )
    if run.hardware.engine is None:
        yield (
            f"stage={run.stage.name} needs a machine with an engine, and hardware={run.hardware.name} has none: "
            "choose another, such as single-gpu"
        )


def _check_answering(run: Run, teacher: set[str]) -> Problems:
    """A model that answers needs a machine that can start it, or a URL."""
    model, hardware = run.model, run.hardware
    if model.name == UNCHOSEN:
        return
    if hardware.urls is None and not model.path:
        group = "hardware@teacher.hardware" if "model" in teacher else "hardware"
        yield f"model={model.name} cannot be started here: choose {group}=api"
    elif hardware.gpus_per_replica and "model" in teacher and "hardware" not in teacher:
        # conf/fit/ has arranged the machine for the model that learns, which may be much smaller.
        yield (
            f"model@teacher.model={model.name} has no machine of its own, and the GPUs of "
            f"hardware={hardware.name} are divided to suit the model to be trained: set "
            f"hardware@teacher.hardware={hardware.name} if they suit it, or run "
            f"stage=generate model={model.name} first and continue with answers={model.name}"
        )
    elif hardware.urls is not None and None in hardware.urls:
        yield f"model={model.name} has no URL of its own: set 'hardware.urls=[http://HOST:PORT/v1]'"
