"""A composed configuration -> the typed run, or every problem with it at once."""

from __future__ import annotations

import contextlib
import copy
import difflib
import math
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from vd100k.config.run import LOOPBACK, Run
from vd100k.config.stages import Chat, Compare, Convert, Evaluate, Finetune, Generate, Part, Pipeline, Serve
from vd100k.errors import ConfigError

TOKEN_PIXELS = 28 * 28  # a visual token of Qwen2-VL and Qwen2.5-VL
CHAT_TOKENS = 256  # of an image in Qwen-VL-Chat
ASKS_FOR_QUESTION = re.compile(r"\{\{-?\s*question\b")


def parse(cfg: DictConfig) -> Run:
    """The typed run of a composed configuration.

    Raises:
        ConfigError: with every missing key, unknown key, bad value and impossible combination.
    """
    problems: dict[str, None] = {}  # a set that keeps its order
    with _no_plugins():
        run = _build(cfg, "stage", problems)
    if run is None or problems:
        raise ConfigError(list(problems))
    return run


@contextlib.contextmanager
def _no_plugins() -> Iterator[None]:
    """pydantic looks for plugins in the metadata of every installed package, a tenth of a second here; not for us."""
    name = "PYDANTIC_DISABLE_PLUGINS"
    before = os.environ.get(name)
    os.environ[name] = "__all__"
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


def _build(cfg: DictConfig, key: str, problems: dict[str, None]) -> Run | None:
    """The run of ``cfg`` and of all its parts; what is wrong with any goes to ``problems``."""
    parts: dict[str, Run | None] = {}
    try:
        if OmegaConf.select(cfg, "stage.name") == "generate":
            teacher = {k: v for k, v in cfg.teacher.items() if v is not None}
            cfg = _with(cfg, teacher) if teacher else cfg  # a copy takes a tenth of a second
        for name, (where, changes) in _parts(cfg).items():
            parts[name] = _build(_with(cfg, changes), f"{key}.{where}", problems)
        content = OmegaConf.to_container(cfg, resolve=True)
        assert isinstance(content, dict)
        content.pop("teacher", None)
        run = Run.model_validate(content | {"key": key, "parts": {k: v for k, v in parts.items() if v}})
    except ValidationError as error:
        problems.update(dict.fromkeys(_in_words(error, key)))
        return None
    except OmegaConfBaseException as error:
        language, texts = cfg.task.get("language"), cfg.task.get("texts") or {}
        if language not in texts and "task.texts" in str(error):
            problems[f"task.language={language}: this task is written in {', '.join(texts) or 'none'}"] = None
        else:
            problems[str(error).split("\n", 1)[0]] = None
        return None
    problems.update(dict.fromkeys(_impossible(run, cfg.get("teacher", {}))))
    return run


def _parts(cfg: DictConfig) -> dict[str, tuple[str, dict[str, Any]]]:
    """The runs that a run is made of: name -> (key of its stage below this one's, nodes to replace)."""
    stage = cfg.stage
    if stage.get("name") == "pipeline":
        steps = stage.steps if isinstance(stage.steps, ListConfig) else []
        return {step: (step, {"stage": stage[step]}) for step in steps if step in stage}
    if stage.get("name") != "evaluate":
        return {}
    common = {
        "stage": stage.ask,
        "images": stage.images,
        "dataset": cfg.dataset,
        "teacher": {},
        "answers": cfg.answers,
        # What training asked: the short question, where the task has one; and every reply as it came.
        "task.prompt": cfg.task.question or cfg.task.prompt,
        "task.reader": "text",
    }
    tuned = "-".join(filter(None, [cfg.model.name, cfg.variant]))
    rows = {"base": f"{stage.folder}/{cfg.model.name}.base.jsonl", "merged": f"{stage.folder}/{tuned}.merged.jsonl"}
    return {
        name: ("ask", {**common, "weights": weights, "paths.rows": rows[weights]})
        for name, weights in (("before", "base"), ("after", "merged"))
        if name in (stage.get("sides") or [])
    }


def _with(cfg: DictConfig, changes: dict[str, Any]) -> DictConfig:
    """A copy with some nodes replaced, in which interpolations resolve anew."""
    changed = copy.deepcopy(cfg)
    OmegaConf.set_struct(changed, False)
    for key, value in changes.items():
        OmegaConf.update(changed, key, copy.deepcopy(value), merge=False)
    return changed


def _in_words(error: ValidationError, stage_key: str) -> Iterator[str]:
    for fault in error.errors():
        # A discriminated union puts the chosen stage's name into the location.
        loc = [str(part) for part in fault["loc"]]
        if len(loc) > 2 and loc[0] == "stage":
            del loc[1]
        if loc[0] == "stage":
            loc[0] = stage_key
        key = ".".join(loc)
        if fault["type"] == "missing":
            yield f"{key} is missing: set {key}=VALUE"
        elif fault["type"] == "extra_forbidden":
            near = difflib.get_close_matches(loc[-1], _known_keys(), n=1)
            yield f"{key} is not a key" + (f": did you mean {near[0]}?" if near else ": remove it")
        else:
            yield f"{key}={fault['input']!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}"


def _known_keys() -> set[str]:
    return {key for part in Part.__subclasses__() for key in part.model_fields}


def _impossible(run: Run, teacher: Mapping[str, Any]) -> Iterator[str]:
    """What each value alone does not show; ``teacher`` is the node of that name, its values null where not chosen."""
    stage, hardware, model = run.stage, run.hardware, run.model
    yield from _impossible_data(run)
    for key in ("preview", "shard"):
        if getattr(run, key) and stage.name != "generate":
            yield f"{key}={getattr(run, key)} is for stage=generate alone: leave it out, or run that stage first"
    if run.shard and not 1 <= int(run.shard.split("/")[0]) <= int(run.shard.split("/")[1]):
        yield f"shard={run.shard}: the first number is which part, 1 to {run.shard.split('/')[1]}"
    if run.task.json_schema is not None:
        yield from _impossible_schema(run)
    if hardware.urls == []:
        yield "hardware.urls=[] names nobody to ask: set 'hardware.urls=[http://HOST:PORT/v1]'"
    for url in hardware.urls or []:
        if url and not url.startswith(("http://", "https://")):
            yield f"hardware.urls names {url}, which is no address: http://HOST:PORT/v1 is expected"
    yield from _impossible_serving(run)
    needs_weights = stage.name in ("finetune", "export", "serve") or run.weights != "base"
    if isinstance(stage, Pipeline):
        if len(set(stage.steps)) < len(stage.steps):
            yield f"{run.key}.steps names a step twice"
        if "finetune" in stage.steps and run.format.name != "swift":
            yield f"format={run.format.name} is not what finetune reads: choose format=swift"
    elif not run.dataset and (
        stage.name not in ("render", "serve", "chat", "report", "compare") or run.weights != "base"
    ):
        yield "no data set is named: set images=FOLDER (or dataset=NAME for one that exists)"
    if isinstance(stage, Compare) and len(run.runs) < 2:
        yield "runs is missing: set 'runs=[FOLDER,FOLDER]', the run folders to set side by side"
    if isinstance(stage, Evaluate):
        for key in ("images", "labels"):
            if not getattr(stage, key):
                yield f"{run.key}.{key} is missing: set it, evaluation compares answers with labels of held-out images"
        if run.task.questions:
            yield f"task={run.task.name} asks another question about each image: evaluation wants one for all"
    elif isinstance(stage, Generate) and not run.images and not run.key.endswith(".ask"):
        yield "no images are named: set images=FOLDER, or a .jsonl or .csv list"
    if needs_weights and not model.path:
        yield f"model={model.name} has no weights to {stage.name}: choose one that has, such as model=qwen2-vl-2b"
    if needs_weights and hardware.engine is None:
        yield f"hardware={hardware.name} has no machine to {stage.name} on: choose hardware=single-gpu or another"
    if isinstance(stage, Generate | Chat) and not needs_weights:
        whose = "hardware@teacher.hardware" if teacher.get("model") else "hardware"
        if hardware.urls is None and not model.path:
            yield f"model={model.name} cannot be started here: choose {whose}=api"
        elif hardware.gpus_per_replica and teacher.get("model") and not teacher.get("hardware"):
            # fit/ has arranged the machine for the model that learns, perhaps a much smaller one.
            yield (
                f"model@teacher.model={model.name} would get the GPUs arranged for the model that learns: set "
                f"hardware@teacher.hardware={hardware.name} if they suit it, or let it answer first with "
                f"stage=generate model={model.name} and go on with answers={model.name}"
            )
        elif hardware.urls is not None and None in hardware.urls:
            yield f"model={model.name} has no address of its own: set 'hardware.urls=[http://HOST:PORT/v1]'"


def _impossible_serving(run: Run) -> Iterator[str]:
    """What cannot be served, or must not be, as it stands."""
    hardware, engine, model = run.hardware, run.hardware.engine, run.model
    if isinstance(run.stage, Chat) and run.stage.host not in LOOPBACK and not run.stage.password_env:
        yield (
            f"stage.host={run.stage.host} lets anyone in who reaches this machine: set stage.password_env=VARIABLE, "
            "the environment variable with the password that they must know"
        )
    if engine is None or run.stage.name not in ("serve", "chat", "generate", "evaluate"):
        return
    if isinstance(run.stage, Serve) and run.stage.action != "start":
        return
    if ":" in str(hardware.host):
        yield f"hardware.host={hardware.host}: IPv6 is not served, set an IPv4 address or a name"
    elif hardware.host not in LOOPBACK and engine.key_env and engine.keeps_to_media:
        who = f"hardware.host={hardware.host} lets anyone ask who reaches this machine"
        if not model.api_key_env:
            yield f"{who}: set model.api_key_env=VARIABLE, the environment variable with the key that they must send"
        if hardware.balancer != "nginx":
            yield f"{who}, at paths that want no key too: set hardware.balancer=nginx, which passes on the others alone"
    elif hardware.host not in LOOPBACK and engine.host_option:
        why = (
            "takes a key on its command line alone, where everyone can see it"
            if not engine.key_env
            else "reads whatever file or address a request names"
        )
        yield f"{engine.name} {why}: leave hardware.host=127.0.0.1"
    if run.weights == "adapter" and engine.adapter_args is None:
        yield f"{engine.name} does not serve an adapter on its base: choose weights=merged"
    tokens = math.ceil(model.max_pixels / TOKEN_PIXELS)
    if hardware.max_model_len in engine.args.values() and hardware.max_model_len and tokens >= hardware.max_model_len:
        yield (
            f"model.max_pixels={model.max_pixels} makes up to {tokens} tokens of an image, and hardware.max_model_len="
            f"{hardware.max_model_len} has no room for an answer: set model.max_pixels="
            f"{hardware.max_model_len * 3 // 4 * TOKEN_PIXELS}, or a longer context"
        )
    if "max_multimodal_len" in engine.args:
        yield from _impossible_lengths(engine.args, model.images_per_prompt)
    if hardware.replica_weights and len(hardware.replica_weights) != hardware.replicas:
        yield (
            f"hardware.replica_weights names {len(hardware.replica_weights)} shares for {hardware.replicas} replicas: "
            "one each is expected"
        )


def _impossible_lengths(args: Mapping[str, Any], images: int) -> Iterator[str]:
    """Of TensorRT engines, which are built for so many tokens and no more."""
    key = "hardware.engine.args"
    wanted = args["max_batch_size"] * images * CHAT_TOKENS
    if args["max_multimodal_len"] < wanted:
        yield (
            f"{key}.max_multimodal_len={args['max_multimodal_len']} is less than max_batch_size x "
            f"model.images_per_prompt x {CHAT_TOKENS} = {wanted}"
        )
    if images * CHAT_TOKENS >= args["max_input_len"]:
        yield (
            f"model.images_per_prompt={images} are {images * CHAT_TOKENS} tokens, and {key}.max_input_len="
            f"{args['max_input_len']} has no room for a question: fewer images, or a longer input"
        )
    if args["max_input_len"] >= args["max_seq_len"]:
        yield f"{key}.max_seq_len={args['max_seq_len']} has no room for an answer: make it more than max_input_len"
    if args["max_num_tokens"] < args["max_input_len"]:
        yield f"{key}.max_num_tokens={args['max_num_tokens']} is less than max_input_len={args['max_input_len']}"


def _impossible_schema(run: Run) -> Iterator[str]:
    import jsonschema  # only now: it takes a while, and most tasks have no schema

    schema = run.task.json_schema or {}
    if run.task.reader != "json":
        yield f"task.schema is for answers in JSON, and task.reader={run.task.reader}: set task.reader=json"
    try:
        jsonschema.validators.validator_for(schema).check_schema(schema)
    except jsonschema.exceptions.SchemaError as error:
        yield f"task.schema is no JSON schema: {error.json_path}: {error.message}"


def _impossible_data(run: Run) -> Iterator[str]:
    """What does not fit together about the data that a stage reads."""
    stage, task = run.stage, run.task
    if isinstance(stage, Generate) and task.questions is None and ASKS_FOR_QUESTION.search(task.prompt):
        yield "nobody is named whose questions are answered: set asker=MODEL, or task.questions=FILE"
    if isinstance(stage, Finetune):
        if stage.method == "dpo" and not run.rejected:
            yield f"{run.key}.method=dpo learns from preference pairs: set rejected=MODEL, whose answers are the worse"
        elif stage.method == "sft" and run.rejected:
            yield f"rejected={run.rejected} makes preference pairs: set {run.key}.method=dpo to train on them"
    if isinstance(stage, Convert):
        for key in {"id", "image", "question", "answer"} ^ stage.columns.keys():
            yield f"{run.key}.columns.{key}: columns says what the source calls id, image, question and answer"
        unknown = {
            role
            for product in stage.products
            for role in (product.answers, product.rejected, product.asker)
            if role and role not in stage.models
        }
        for role in sorted(unknown):
            yield f"{run.key}.products names {role}, which {run.key}.models does not"
