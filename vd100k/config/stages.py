"""What each stage can be told, key by key; ``config.Run`` is the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

Options = dict[str, Any]  # another tool's options, passed on as they are
Share = Annotated[float, Field(ge=0, lt=1)]


class Part(BaseModel):
    """A frozen piece of configuration that knows no key but its own."""

    # Only Run is built, and all others within it, when the first one is parsed: that halves the import.
    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), coerce_numbers_to_str=True, defer_build=True
    )


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
    """What makes a row unfit to train on; see conf/stage/convert.yaml."""

    image_missing: bool
    image_unreadable: bool
    image_small: bool
    image_tags: bool
    empty: bool
    truncated: bool
    repetition: bool
    echo: bool
    refusal: bool
    not_json: bool
    duplicate: bool
    near_duplicate: bool
    too_long: bool


class Role(Part):
    """A model that stands behind a name in products' files, and the machine that it answers on."""

    model: str
    hardware: str


class Product(Part):
    """A file made from answer sets; models are named by their role."""

    file: str
    dataset: str
    task: str
    layout: Literal["rows", "sft", "dpo"]
    answers: str
    rejected: str | None = None
    asker: str | None = None
    # In the order of the asker's questions.
    sorted: bool = False


class Convert(Part):
    name: Literal["convert"]
    source: Path
    rejected: Path | None
    folder: Path
    columns: dict[str, str]  # of id, image, question and answer
    split_dataset_ratio: Share
    data_seed: int
    max_length: PositiveInt
    license: str | None
    rules: Rules
    models: dict[str, Role]
    products: list[Product]


class Finetune(Part):
    name: Literal["finetune"]
    method: Literal["sft", "dpo"]
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
    action: Literal["start", "status", "stop", "logs"]
    detach: bool
    server: str | None


class Chat(Part):
    name: Literal["chat"]
    host: str
    port: Annotated[int, Field(gt=0, le=65_535)]
    password_env: str | None
    timeout_s: PositiveFloat


class Evaluate(Part):
    name: Literal["evaluate"]
    sides: Annotated[list[Literal["before", "after"]], Field(min_length=1)]
    ask: Generate
    images: str | None
    labels: Path | None
    folder: Path


class Report(Part):
    name: Literal["report"]


class Compare(Part):
    name: Literal["compare"]


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


AnyStage = Render | Generate | Convert | Finetune | Export | Serve | Chat | Evaluate | Pipeline | Report | Compare
