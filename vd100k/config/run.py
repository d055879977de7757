"""The typed run: what a configuration can say, key by key. ``parsing.parse`` makes one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from vd100k.config.stages import AnyStage, Options, Part

LOOPBACK = ("127.0.0.1", "localhost")


class Engine(Part):
    """How a model is served: the parts of a command line, and the name clients ask for."""

    name: str
    python: str | None
    module: str | None
    words: list[str]
    flags: Literal["kebab", "snake", "switch"]
    package: str
    install: str
    serves: str | None
    rebinds_port: bool
    key_env: str | None
    gpus_option: str | None
    host_option: str | None
    keeps_to_media: bool
    env: Options
    files: dict[str, str]
    args: Options
    adapter_args: Options | None
    steps: list[list[str]]


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
    port: Annotated[int, Field(gt=0, lt=65_500)] | None
    balancer: Literal["none", "nginx"]
    start_timeout_s: PositiveFloat
    max_restarts: NonNegativeInt = 5
    preflight: bool = True
    replica_weights: list[PositiveInt] | None = None
    affinity_header: str | None = None
    allowed_media_path: Path | None = None
    allowed_media_domains: list[str] = Field(default_factory=list)

    @property
    def balanced(self) -> bool:
        """Whether nginx stands in front: before several replicas, and before one that others than us may ask."""
        return self.balancer == "nginx" and (self.replicas > 1 or self.host not in LOOPBACK)

    @property
    def ports(self) -> list[int]:
        """One port a replica; behind a balancer they follow the balancer's."""
        first = (self.port or 0) + (1 if self.balanced else 0)
        return [first + k for k in range(self.replicas)]


class Price(Part):
    """USD for a million tokens."""

    prompt: NonNegativeFloat
    completion: NonNegativeFloat


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
    price: Price | None = None
    min_pixels: PositiveInt = 3136
    learning_rate: PositiveFloat = 1e-4
    build: list[str] | None = None
    source: Literal["hf", "modelscope", "local"] = "hf"
    trust_remote_code: bool = False


class Task(Part):
    """A prompt (a Jinja template), how it is sampled, and how the reply is read."""

    name: str
    language: str
    texts: dict[str, dict[str, str]]
    system_prompt: str | None
    prompt: Annotated[str, Field(min_length=1)]
    question: str | None
    questions: Path | None
    reader: Literal["text", "json", "question", "choice"]
    sampling: Options
    json_schema: Options | None = Field(default=None, alias="schema")


class Format(Part):
    name: Literal["swift", "sharegpt", "vd100k", "parquet"]


class Tracking(Part):
    name: Literal["none", "wandb"]
    project: str | None = None
    entity: str | None = None
    group: str | None = None
    upload: bool = False


class Sweep(Part):
    """What the jobs of a sweep are ordered by; ``keys`` are those that it varies."""

    metric: str | None
    direction: Literal["minimize", "maximize"] | None
    keys: list[str] = Field(default_factory=list)


class Paths(Part):
    """Where data and models lie; see conf/config.yaml."""

    data: Path
    rows: Path
    rejected: Path | None
    training: Path
    tuned: Path
    base: str | None
    adapter: Path
    merged: Path


class Run(Part):
    """One run, wholly decided.

    ``parts`` holds the runs it is made of: a pipeline's steps, an evaluation's ``before`` and
    ``after``; ``key`` is where this one's stage stands on the command line. A run that generates
    has the teacher's model and hardware as its own.
    """

    key: str

    images: str | None
    image_folder: Annotated[Path, AfterValidator(Path.expanduser)] | None
    dataset: str | None
    output_dir: Path
    dry_run: bool
    limit: PositiveInt | None
    sample: PositiveInt | None
    shard: Annotated[str, Field(pattern=r"^\d+/\d+$")] | None
    preview: PositiveInt | None
    seed: int
    answers: str
    rejected: str | None
    asker: str | None
    system: str
    max_length: PositiveInt
    weights: Literal["base", "merged", "adapter"]
    variant: str | None
    run: Path | None
    runs: list[Path]
    sweep: Sweep
    hardware: Hardware
    model: Model
    served_names: dict[str, str]
    paths: Paths
    task: Task
    format: Format
    tracking: Tracking
    stage: AnyStage = Field(discriminator="name")
    parts: dict[str, Run] = Field(default_factory=dict)

    def in_group(self, name: str) -> Run:
        """The same run and parts, tracked in this group where none is named."""
        grouped = self.tracking.model_copy(update={"group": self.tracking.group or name})
        parts = {key: part.in_group(name) for key, part in self.parts.items()}
        return self.model_copy(update={"tracking": grouped, "parts": parts})

    @property
    def full_name(self) -> str:
        """The model's name, with the variant where there is one."""
        return "-".join(filter(None, [self.model.name, self.variant]))

    @property
    def served_name(self) -> str:
        """The model name that requests carry."""
        engine = self.hardware.engine
        return (engine.serves if engine else None) or self.served_names[self.weights]

    @property
    def model_path(self) -> str | None:
        """The folder or hub name of the weights served or asked."""
        return str(self.paths.merged) if self.weights == "merged" else self.model.path
