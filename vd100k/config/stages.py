"""The settings of each stage. conf/stage/ holds the values and describes each key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from vd100k.config.base import Inherits, Options, Part, Share
from vd100k.parallel.cores import core_count


class Render(Part):
    name: Literal["render"]
    what: Literal["scenes", "manifests"]
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
    endpoint_wait_s: NonNegativeFloat
    max_failure_rate: Annotated[float, Field(gt=0, le=1)]
    min_free_disk_mb: NonNegativeInt
    check: bool
    retry_failed: bool
    if_changed: Literal["refuse", "set_aside"]
    sorted: bool


class Rules(Part):
    """The rules that reject a row."""

    image_missing: bool
    image_unreadable: bool
    image_changed: bool
    image_small: bool
    image_tags: bool
    bad_box: bool
    empty: bool
    truncated: bool
    repetition: bool
    echo: bool
    refusal: bool
    not_json: bool
    duplicate: bool
    near_duplicate: bool
    leaked: bool
    too_long: bool
    doubtful: bool

    @property
    def open_images(self) -> bool:
        """Whether they look into images."""
        return self.image_unreadable or self.image_small


class Role(Part):
    """The model behind a name in the table of products, and the machine that it answers on."""

    model: str
    hardware: str


class Product(Part):
    """A file made from sets of answers; ``answers``, ``rejected`` and ``asker`` are names of roles."""

    file: str
    dataset: str
    task: str
    layout: Literal["rows", "sft", "dpo"]
    answers: str
    rejected: str | None = None
    asker: str | None = None
    # Sort the rows in the order of the asker's questions.
    sorted: bool = False


class Convert(Part):
    name: Literal["convert"]
    source: Path
    rejected: Path | None
    labels: Path | None
    max_wrong: Annotated[float, Field(gt=0, lt=1)] | None
    folder: Path
    columns: dict[str, str]
    split_dataset_ratio: Share
    split_by: Literal["copies", "image"]
    data_seed: int
    max_length: PositiveInt
    license: str | None
    turns: Literal["separate", "merge"]
    text_rows: Literal["reject", "mixed", "apart"]
    rules: Rules
    processes: PositiveInt | Literal["auto"]
    models: dict[str, Role]
    product_defaults: Options
    products: list[Product]

    @property
    def process_count(self) -> int:
        """The number of processes that share the work on rows."""
        return self.processes if isinstance(self.processes, int) else core_count()

    @model_validator(mode="before")
    @classmethod
    def _apply_product_defaults(cls, given: Any) -> Any:
        defaults, products = given.get("product_defaults"), given.get("products")
        if not isinstance(defaults, dict) or not isinstance(products, list):
            return given
        return given | {"products": [defaults | row if isinstance(row, dict) else row for row in products]}


class Finetune(Part):
    name: Literal["finetune"]
    method: Literal["sft", "dpo"]
    cuda_devices: str | int | None
    env: Options
    inherits: Inherits
    folder: Path
    args: Options


class Parity(Part):
    name: Literal["parity"]
    rows: PositiveInt
    if_different: Literal["refuse", "warn"]
    file: Path
    train: Finetune | None


class Export(Part):
    name: Literal["export"]
    adapter: Path
    folder: Path
    env: Options
    inherits: Inherits
    args: Options


class Serve(Part):
    name: Literal["serve"]
    action: Literal["start", "status", "stop", "logs"]
    detach: bool
    server: str | None


class WebPage(Part):
    """Where a page is served, and who may open it."""

    host: str
    port: Annotated[int, Field(gt=0, le=65_535)]
    password_env: str | None


class Chat(WebPage):
    name: Literal["chat"]
    timeout_s: PositiveFloat


class Label(WebPage):
    name: Literal["label"]
    source: Path
    labels: Path
    rows: PositiveInt
    stratify: Literal["score"] | None
    labeller: Annotated[str, Field(min_length=1)] | None


Side = Literal["before", "after"]


class OtherTask(Part):
    """Another task that an evaluation asks about, so that forgetting is seen; by default it is called as its task."""

    task: str
    images: str
    labels: Path
    name: str | None = None


class Evaluate(Part):
    name: Literal["evaluate"]
    sides: Annotated[list[Side], Field(min_length=1)]
    ask: Generate
    images: str | None
    labels: Path | None
    judge: bool
    slices: list[str]
    also: list[OtherTask]
    if_leaked: Literal["refuse", "drop", "warn"]
    folder: Path


class Verify(Part):
    name: Literal["verify"]
    ask: Generate


class Report(Part):
    name: Literal["report"]


class Compare(Part):
    name: Literal["compare"]


Step = Literal["render", "generate", "verify", "convert", "parity", "finetune", "export", "parity_merged", "evaluate"]


class Pipeline(Part):
    name: Literal["pipeline"]
    steps: Annotated[list[Step], Field(min_length=1)]
    closing: str | None
    render: Render
    generate: Generate
    verify: Verify
    convert: Convert
    parity: Parity | Literal[False]
    finetune: Finetune
    export: Export
    parity_merged: Parity
    evaluate: Evaluate


AnyStage = (
    Render
    | Generate
    | Verify
    | Convert
    | Parity
    | Finetune
    | Export
    | Serve
    | Chat
    | Label
    | Evaluate
    | Pipeline
    | Report
    | Compare
)
