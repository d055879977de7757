"""The typed run. ``parse`` turns a composed configuration into one, or names every problem at once."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError

from vd100k.errors import ConfigError

Options = dict[str, Any]  # another tool's options, passed on as they are
Share = Annotated[float, Field(ge=0, lt=1)]


class Part(BaseModel):
    """A frozen piece of configuration that knows no key but its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Engine(Part):
    """How a model is served: the parts of a command line, and the name clients ask for."""

    name: str
    python: str | None
    module: str
    subcommand: str | None
    flags: Literal["kebab", "snake"]
    package: str
    install: str
    serves: str | None
    env: Options
    args: Options


class Hardware(Part):
    """Facts of a machine. ``urls`` set means the models are elsewhere and nothing is started."""

    name: str
    engine: Engine | None = None
    urls: list[str | None] | None = None
    replicas: NonNegativeInt
    gpus_per_replica: NonNegativeInt
    dtype: str | None
    train_dtype: str | None
    attention: str | None
    max_model_len: PositiveInt | None
    gpu_memory_utilization: PositiveFloat | None
    host: str | None
    port: PositiveInt | None
    balancer: Literal["none", "nginx"]
    start_timeout_s: PositiveFloat

    @property
    def balanced(self) -> bool:
        return self.balancer == "nginx" and self.replicas > 1

    @property
    def ports(self) -> list[int]:
        """One port a replica; behind a balancer they follow the balancer's."""
        first = (self.port or 0) + (1 if self.balanced else 0)
        return [first + k for k in range(self.replicas)]


class Model(Part):
    name: str
    served_name: str
    path: str | None
    model_type: str | None
    template: str | None
    images_per_prompt: PositiveInt
    max_pixels: PositiveInt
    api_base: str | None = None
    api_key_env: str | None = None
    build: list[str] | None = None


class Task(Part):
    """A prompt, how it is sampled, and how the reply is read."""

    name: str
    language: Literal["zh", "en"]
    system_prompt: str | None
    prompt: Annotated[str, Field(min_length=1)]
    question: str | None
    reader: Literal["text", "json"]
    sampling: Options


class Format(Part):
    name: Literal["swift", "sharegpt"]


class Tracking(Part):
    name: Literal["none", "wandb"]
    project: str | None = None
    entity: str | None = None
    group: str | None = None


class Paths(Part):
    """Where data and models lie; see conf/config.yaml."""

    data: Path
    rows: Path
    training: Path
    tuned: Path
    base: str | None
    adapter: Path
    merged: Path


class Render(Part):
    name: Literal["render"]
    folder: Path
    train: PositiveInt
    heldout: PositiveInt
    seed: int


class Generate(Part):
    name: Literal["generate"]
    max_in_flight: PositiveInt
    timeout_s: PositiveFloat
    connect_timeout_s: PositiveFloat
    max_retries: NonNegativeInt
    retry_failed: bool
    if_changed: Literal["refuse", "set_aside"]


class Convert(Part):
    name: Literal["convert"]
    rows: Path
    folder: Path
    split_dataset_ratio: Share
    data_seed: int


class Finetune(Part):
    name: Literal["finetune"]
    method: Literal["sft"]
    cuda_devices: str | int
    env: Options
    folder: Path
    args: Options


class Export(Part):
    name: Literal["export"]
    adapter: Path
    folder: Path
    env: Options
    args: Options


class Serve(Part):
    name: Literal["serve"]


class Evaluate(Part):
    name: Literal["evaluate"]
    ask: Generate
    images: str | None
    labels: Path | None
    folder: Path


Step = Literal["render", "generate", "convert", "finetune", "export", "evaluate"]


class Pipeline(Part):
    name: Literal["pipeline"]
    steps: Annotated[list[Step], Field(min_length=1)]
    closing: str | None
    render: Render
    generate: Generate
    convert: Convert
    finetune: Finetune
    export: Export
    evaluate: Evaluate


AnyStage = Render | Generate | Convert | Finetune | Export | Serve | Evaluate | Pipeline


class Run(Part):
    """One run, wholly decided.

    ``parts`` holds the runs it is made of: a pipeline's steps, an evaluation's ``before`` and
    ``after``. A run that generates has the teacher's model and hardware as its own.
    """

    images: str | None
    dataset: str | None
    output_dir: Path
    dry_run: bool
    limit: PositiveInt | None
    seed: int
    answers: str
    weights: Literal["base", "merged"]
    hardware: Hardware
    model: Model
    served_names: dict[str, str]
    paths: Paths
    task: Task
    format: Format
    tracking: Tracking
    stage: AnyStage = Field(discriminator="name")
    parts: dict[str, Run] = {}

    @property
    def served_name(self) -> str:
        """The model name that requests carry."""
        engine = self.hardware.engine
        return (engine.serves if engine else None) or self.served_names[self.weights]

    @property
    def model_path(self) -> str | None:
        """The folder or hub name of the weights served or asked."""
        return str(self.paths.merged) if self.weights == "merged" else self.model.path


def parse(cfg: DictConfig) -> Run:
    """The typed run of a composed configuration.

    Raises:
        ConfigError: with every missing key, unknown key, bad value and impossible combination.
    """
    problems: dict[str, None] = {}  # a set that keeps its order
    run = _build(cfg, problems)
    if run is None or problems:
        raise ConfigError(list(problems))
    return run


def _build(cfg: DictConfig, problems: dict[str, None]) -> Run | None:
    """The run of ``cfg`` and of all its parts; what is wrong with any goes to ``problems``."""
    stage = OmegaConf.select(cfg, "stage.name")
    changes: dict[str, dict[str, Any]] = {}
    if stage == "generate":
        cfg = _with(cfg, {k: v for k, v in cfg.teacher.items() if v is not None})
    elif stage == "pipeline":
        changes = {step: {"stage": cfg.stage[step]} for step in cfg.stage.steps if step in cfg.stage}
    elif stage == "evaluate":
        changes = {
            name: {
                "stage": cfg.stage.ask,
                "weights": weights,
                "images": cfg.stage.images,
                "teacher": {},
                "answers": cfg.answers,
                "paths.rows": f"{cfg.stage.folder}/{cfg.model.name}.{weights}.jsonl",
            }
            for name, weights in (("before", "base"), ("after", "merged"))
        }
    parts = {name: _build(_with(cfg, change), problems) for name, change in changes.items()}
    try:
        content = OmegaConf.to_container(cfg, resolve=True)
        assert isinstance(content, dict)
        content.pop("teacher", None)
        run = Run.model_validate(content | {"parts": {k: v for k, v in parts.items() if v}})
    except ValidationError as error:
        problems.update(dict.fromkeys(_in_words(error)))
        return None
    except OmegaConfBaseException as error:
        problems[str(error).split("\n", 1)[0]] = None
        return None
    problems.update(dict.fromkeys(_impossible(run)))
    return run


def _with(cfg: DictConfig, changes: dict[str, Any]) -> DictConfig:
    """A copy with some nodes replaced, in which interpolations resolve anew."""
    changed = copy.deepcopy(cfg)
    OmegaConf.set_struct(changed, False)
    for key, value in changes.items():
        OmegaConf.update(changed, key, copy.deepcopy(value), merge=False)
    return changed


def _in_words(error: ValidationError) -> Iterator[str]:
    for fault in error.errors():
        # A discriminated union puts the chosen stage's name into the location.
        loc = [str(part) for part in fault["loc"]]
        if len(loc) > 2 and loc[0] == "stage":
            del loc[1]
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


def _impossible(run: Run) -> Iterator[str]:
    """What each value alone does not show."""
    stage, hardware, model = run.stage, run.hardware, run.model
    if stage.name not in ("render", "serve", "pipeline") and not run.dataset:
        yield "no data set is named: set images=FOLDER (or dataset=NAME for one that exists)"
    if stage.name == "generate":
        if not run.images:
            yield "no images are named: set images=FOLDER, or a .jsonl or .csv list"
        if hardware.urls is not None and None in hardware.urls:
            yield f"model={model.name} has no address of its own: set 'hardware.urls=[http://HOST:PORT/v1]'"
    if stage.name in ("finetune", "export", "serve") or run.weights == "merged":
        if not model.path:
            yield f"model={model.name} has no weights to {stage.name}: choose one that has, such as model=qwen2-vl-2b"
        if hardware.engine is None:
            yield f"hardware={hardware.name} has no machine to {stage.name} on: choose hardware=single-gpu or another"
    elif stage.name == "generate" and hardware.urls is None and not model.path:
        yield f"model={model.name} cannot be started here: choose hardware=api"
    if isinstance(stage, Evaluate):
        for key in ("images", "labels"):
            if not getattr(stage, key):
                yield f"stage.{key} is missing: evaluation compares answers with labels of held-out images"
    if isinstance(stage, Pipeline) and "finetune" in stage.steps and run.format.name != "swift":
        yield f"format={run.format.name} is not what finetune reads: choose format=swift"
