"""The typed run: everything that one run needs to know. conf/ holds the values and describes each key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from vd100k.config.base import Inherits, Options, Part
from vd100k.config.stages import AnyStage

LOOPBACK = ("127.0.0.1", "localhost")


class MultiNode(Part):
    """How each of several machines starts its share of one replica; RANK and ADDRESS in options stand for theirs."""

    module: str
    words: list[str]
    args: Options
    others: Options


class Engine(Part):
    """How a model is served: the parts of a command line, and the name that clients ask for."""

    name: str
    python: str | None
    module: str | None
    words: list[str]
    flags: Literal["kebab", "snake", "switch"]
    package: str
    install: str
    serves: str | None
    serves_folder_name: bool
    rebinds_port: bool
    renderer: str | None
    key_env: str | None
    gpus_option: str | None
    host_option: str | None
    keeps_to_media: bool
    runs_code: bool
    env: Options
    inherits: Inherits
    args: Options
    adapter_args: Options | None
    multi_node: MultiNode | None
    files: dict[str, str]
    steps: list[list[str]]


class Hardware(Part):
    """A machine. If ``urls`` is set, the model runs elsewhere and nothing is started."""

    name: str
    engine: Engine | None
    replicas: NonNegativeInt
    gpus_per_replica: NonNegativeInt
    dtype: str | None
    train_dtype: str | None
    attention: str | None
    max_model_len: PositiveInt | None
    gpu_memory_gb: PositiveFloat | None
    gpu_memory_utilization: PositiveFloat | None
    host: str | None
    port: Annotated[int, Field(gt=0, lt=65_500)] | None
    balancer: Literal["none", "nginx"]
    start_timeout_s: PositiveFloat
    urls: list[str | None] | None
    max_restarts: NonNegativeInt
    preflight: bool
    replica_weights: list[PositiveInt] | None
    affinity_header: str | None
    allowed_media_path: Path | None
    allowed_media_domains: list[str]

    @property
    def balanced(self) -> bool:
        """Whether nginx is in front: of several replicas, or of one that other machines may reach."""
        return self.balancer == "nginx" and (self.replicas > 1 or self.host not in LOOPBACK)

    @property
    def ports(self) -> list[int]:
        """The port of each replica; with a balancer, they follow the balancer's port."""
        first = (self.port or 0) + (1 if self.balanced else 0)
        return [first + k for k in range(self.replicas)]


class Cluster(Part):
    """Several machines, each of which serves as ``Hardware`` says; ``name`` is ``none`` for this machine alone."""

    name: str
    address: str | None
    nodes: PositiveInt
    nodes_per_replica: PositiveInt
    drivers: PositiveInt
    resources: dict[str, PositiveFloat]
    python: str | None
    wait_s: PositiveFloat
    auth: Literal["token", "none"]

    @property
    def here(self) -> bool:
        """Whether everything runs on this machine."""
        return self.name == "none"


class Price(Part):
    """USD for a million tokens."""

    prompt: NonNegativeFloat
    completion: NonNegativeFloat


class Model(Part):
    """A model: its weights, or the API it is reached through."""

    name: str
    served_name: str
    path: str | None
    model_type: str | None
    template: str | None
    images_per_prompt: PositiveInt
    default_system: str | None
    thinking: bool | None
    box_notation: Literal["thousandths-tags", "thousandths-tokens", "resized-pixels-json", "thousandths-json"] | None
    token_side: PositiveInt
    min_pixels: PositiveInt
    max_pixels: PositiveInt
    quantization: str | None
    learning_rate: PositiveFloat
    source: Literal["hf", "modelscope", "local"]
    use_hf: int | None
    trust_remote_code: bool
    api_base: str | None
    api_key_env: str | None
    price: Price | None
    build: list[str] | None


class Task(Part):
    """A prompt (a Jinja template), its sampling, and how a reply is parsed."""

    name: str
    language: str
    texts: dict[str, dict[str, str]]
    system_prompt: str | None
    prompt: Annotated[str, Field(min_length=1)]
    question: str | None
    rubric: str | None
    questions: Path | None
    turns: list[str]
    labels: list[str]
    reader: Literal["text", "json", "question", "choice", "boxes"]
    metrics: Annotated[list[str], Field(min_length=1)] | None
    sampling: Options
    json_schema: Options | None = Field(default=None, alias="schema")


class Agreement(Part):
    """How a question is asked again, and what its answers are compared with."""

    samples: NonNegativeInt
    temperature: NonNegativeFloat | None
    against: list[str]
    tolerance: Annotated[float, Field(ge=0, lt=1)]
    texts: dict[str, str]


class Judge(Part):
    """What a judge is asked, and how its verdict is read."""

    samples: PositiveInt
    logprobs: bool
    texts: dict[str, dict[str, str]]
    system_prompt: str | None
    prompt: Annotated[str, Field(min_length=1)]
    comparison: Annotated[str, Field(min_length=1)]
    right: Annotated[str, Field(min_length=1)]
    wrong: Annotated[str, Field(min_length=1)]
    json_reply: bool
    sampling: Options


class Verify(Part):
    """How stage=verify checks answers; what is not chosen is None."""

    agreement: Agreement | None = None
    judge: Judge | None = None


class Format(Part):
    """The output format of convert."""

    name: Literal["swift", "sharegpt", "vd100k", "parquet"]


class Tracking(Part):
    """Where figures are sent besides the run folder."""

    name: Literal["none", "wandb"]
    project: str | None = None
    entity: str | None = None
    group: str | None = None
    upload: bool = False


class Sweep(Part):
    """How the jobs of a sweep are ordered; ``keys`` are the keys that vary."""

    metric: str | None
    direction: Literal["minimize", "maximize"] | None
    keys: list[str] = Field(default_factory=list)


class Paths(Part):
    """Where data and models are kept."""

    data: Path
    rows: Path
    rejected: Path | None
    training: Path
    tuned: Path
    base: str | None
    adapter: Path
    merged: Path


class Run(Part):
    """One run, completely decided.

    ``key`` is that of its stage on the command line (``stage``, ``stage.generate``). ``parts`` are the runs that it
    consists of: steps of a pipeline, sides of an evaluation. A run that generates has the teacher's model and hardware.
    """

    key: str

    images: str | None
    image_folder: str | None
    group: str | None
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
    system: str | None
    max_length: PositiveInt
    weights: Literal["base", "merged", "adapter"]
    variant: str | None
    run: Path | None
    runs: list[Path]
    sweep: Sweep
    cluster: Cluster
    hardware: Hardware
    model: Model
    served_names: dict[str, str]
    paths: Paths
    task: Task
    verify: Verify
    format: Format
    tracking: Tracking
    stage: AnyStage = Field(discriminator="name")
    parts: dict[str, Run] = Field(default_factory=dict)

    def in_group(self, name: str) -> Run:
        """The same run with its parts, tracked in this group unless another group is set."""
        grouped = self.tracking.model_copy(update={"group": self.tracking.group or name})
        parts = {key: part.in_group(name) for key, part in self.parts.items()}
        return self.model_copy(update={"tracking": grouped, "parts": parts})

    @property
    def looks(self) -> Path:
        """The folder in which the looks of images are kept (``similarity.cache``)."""
        return self.output_dir.expanduser() / "cache" / "images"

    @property
    def full_name(self) -> str:
        """The model's name, followed by the variant if there is one."""
        return "-".join(filter(None, [self.model.name, self.variant]))

    @property
    def served_name(self) -> str:
        """The model name that requests carry."""
        engine = self.hardware.engine
        if engine and engine.serves_folder_name:
            path = Path(self.model_path or "")
            return path.name if path.is_dir() else str(self.model_path)
        return (engine.serves if engine else None) or self.served_names[self.weights]

    @property
    def model_path(self) -> str | None:
        """The folder or hub name of the weights that are served or asked."""
        return str(self.paths.merged) if self.weights == "merged" else self.model.path
