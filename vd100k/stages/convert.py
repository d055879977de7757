"""Convert rows into a trainer's files, or make the products of a data set; rejected rows are kept with the reason."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from vd100k.config.checks import ASKS_FOR_QUESTION
from vd100k.config.run import Run
from vd100k.config.stages import Convert
from vd100k.console import say
from vd100k.conversion import formats, rejections
from vd100k.conversion.blocks import Recipe
from vd100k.conversion.run import Job, Outcome, convert, show
from vd100k.conversion.splits import Copies
from vd100k.conversion.token_lengths import TokenLengths
from vd100k.dataset import advice, products, training_files
from vd100k.errors import DataError
from vd100k.images.paths import folder_of
from vd100k.images.resizing import SizeRule
from vd100k.io import jsonl
from vd100k.runs import rows_elsewhere
from vd100k.runs.needs import Need, missing
from vd100k.runs.summary import Summary, file_facts
from vd100k.runs.tracker import Tracker
from vd100k.similarity.pictures import side_by_side
from vd100k.sources import blocks, joins
from vd100k.sources.readers import Source
from vd100k.verification import gate, verdicts
from vd100k.verification.scores import promise

ONE_IMAGE = ("vd100k", "parquet")  # the formats whose column of images has another type for several


def needs(run: Run, stage: Convert) -> Iterator[Need]:
    if stage.products:
        return  # those that can be made are made
    source = _source(run, stage)
    yield Need(lambda: _faults(run, stage, source), source.path, given=stage.source != run.paths.rows)
    if stage.labels:
        yield missing(stage.labels.expanduser(), f"{run.key}.labels={stage.labels}: no such file.", given=True)
    if stage.max_wrong is not None or run.rejected == gate.SAMPLES:
        path = verdicts.path(run.paths.rows)
        yield missing(
            path, f"{path}: there are no verdicts on the rows. Verify them first: {gate.commands(run)['verify']}"
        )
    if stage.rejected and run.rejected != gate.SAMPLES:
        text = f"{stage.rejected}: the rows do not exist. Generate them first: python run.py stage=generate …"
        yield missing(stage.rejected, text, given=stage.rejected != run.paths.rejected)


def makes(run: Run, stage: Convert) -> list[Path]:
    return [stage.folder]


def plan(run: Run, stage: Convert) -> list[str]:
    if stage.products:
        files = [f"write {product.file} into {stage.folder}" for product in stage.products]
        return [*files, *products.missing(run, stage)]
    pairs = f", pair them with {_worse(run, stage)}" if stage.rejected else ""
    return [f"read {stage.source}{pairs}", f"write {run.format.name} files into {stage.folder}"]


def run(run: Run, stage: Convert, folder: Path, summary: Summary, tracker: Tracker) -> None:
    system = run.task.system_prompt or run.system
    model, rule = run.model, SizeRule.of(run.model)
    token_lengths = TokenLengths(model.path, system, rule, stage.max_length, model.thinking)
    outcomes = (_products if stage.products else _rows)(run, stage, token_lengths, folder, summary)
    if uncounted := sum(outcome.uncounted for outcome in outcomes):
        say(
            f"{uncounted} rows may be longer than max_length={stage.max_length}: their tokens cannot be "
            f"counted, because tokenizer.json of {run.model.path or run.model.name} is not on this machine. "
            "Download the model, or set model.path=FOLDER."
        )


def _rows(run: Run, stage: Convert, token_lengths: TokenLengths, folder: Path, summary: Summary) -> Collection[Outcome]:
    """Convert the rows of the run into the format of the run."""
    source = _source(run, stage)
    stage.folder.mkdir(parents=True, exist_ok=True)
    groups = run.format.name in ONE_IMAGE and source.has_groups()
    layouts = formats.GROUP_LAYOUTS if groups else formats.LAYOUTS
    layout, rejected = layouts[run.format.name], stage.folder / rejections.NAME
    single = run.format.name in ONE_IMAGE and not groups
    image_folders = (_image_folder(run, source), str(source.unpacked.absolute()))
    summary.image_folders = list(image_folders)
    writers, read = training_files.writers(run, stage, groups), source.blocks
    if stage.rejected and run.rejected != gate.SAMPLES:
        read = partial(blocks.of_entries, joins.pairs, source.lines, stage.rejected)
    known, summary.certainty = gate.examine(run, stage, source.lines)
    inputs = [source.path, stage.rejected, gate.labels_path(run, stage), verdicts.path(run.paths.rows)]
    with gate.opened(run, stage, known) as gated, ThreadPoolExecutor(1) as thread:
        read_files = thread.map(file_facts, [path for path in inputs if path and path.is_file()])
        recipe = Recipe(run, stage, token_lengths, image_folders, layout, tuple(writers), single, *gated.rules)
        outcome = convert(Job(read, recipe, writers, rejected))
    show({stage.folder.name: outcome})
    joined = {"joined": outcome.joined} if outcome.joined else {}
    summary.counts = {"rows": outcome.rows, **outcome.sides, **joined, "rejected": outcome.reasons.total()}
    summary.metrics = {"rejected": dict(outcome.reasons)}
    if not outcome.sides["train"]:
        for facts in outcome.files:  # a training on empty files would fail without saying why
            Path(facts["path"]).unlink(missing_ok=True)
        example = f" The first one rejected: {outcome.first}." if outcome.first else ""
        raise DataError(
            f"{stage.source}: no row is left to train on. {advice.nothing_to_train_on(run, outcome, rejected)}{example}"
        )
    calibration = summary.certainty.get("calibration") or {}
    verified = promise(calibration) if calibration.get("promised") else None
    training_files.describe(run, stage, outcome, verified)
    if outcome.copies and outcome.copies.groups:
        _show_copies(outcome.copies, stage.folder / "copies.jsonl", folder, summary)
    if verified:
        say(f"{outcome.rows - outcome.reasons.total():,} of {outcome.rows:,} rows kept; {verified}")
    sides = ", ".join(f"{count} {side}" for side, count in outcome.sides.items())
    turns = f"{outcome.joined} as further turns of conversations, " if outcome.joined else ""
    say(f"{sides}, {turns}{outcome.reasons.total()} rejected: {stage.folder}")
    if stage.split_dataset_ratio and not outcome.sides.get("val"):
        say(advice.nothing_held_out(run, stage, outcome))
    summary.inputs, summary.outputs = list(read_files), outcome.files
    return [outcome]


def _show_copies(copies: Copies, path: Path, folder: Path, summary: Summary) -> None:
    """Write down which images show the same, and let the report show some of them side by side."""
    groups = [[member.path for member in group] for group in copies.groups]
    jsonl.write(path, ({"images": group} for group in groups))
    summary.counts["copies"] = sum(map(len, groups)) - len(groups)
    summary.add_copies(side_by_side(((group[0], group[1]) for group in groups), folder / "copies"))
    say(f"{summary.counts['copies']} images show the same as another one and are on the same side as it: {path}")


def _worse(run: Run, stage: Convert) -> str:
    """Where the worse answers of pairs come from."""
    return "the worst answers that stage=verify got" if run.rejected == gate.SAMPLES else str(stage.rejected)


def _default_question(run: Run) -> str:
    """The question of rows that have none; empty if the task's prompt is not a question about the image itself."""
    task = run.task
    asks = task.reader not in ("question", "choice") and not ASKS_FOR_QUESTION.search(task.prompt)
    return task.question or (task.prompt if asks and not task.questions else "")


def _faults(run: Run, stage: Convert, source: Source) -> Iterator[str]:
    """What is wrong with the source; of generated rows that do not exist, those of shards or of other tasks."""
    if source.path.exists() or stage.source != run.paths.rows:
        yield from source.faults()
    elif parts := rows_elsewhere.not_joined(run, source.path):
        yield parts
    elif notes := rows_elsewhere.other_tasks(run):
        yield "\n".join([f"{source.path}: there are no such rows.", *notes])
    else:
        yield from source.faults()


def _products(
    run: Run, stage: Convert, token_lengths: TokenLengths, folder: Path, summary: Summary
) -> Collection[Outcome]:
    """Make every product whose inputs exist, and print the commands that make the missing inputs."""
    stage.folder.mkdir(parents=True, exist_ok=True)
    made = products.make(run, stage, token_lengths)
    if made:
        show(made)
    say(f"{len(made)} of {len(stage.products)} files made: {stage.folder}")
    for line in products.missing(run, stage):
        say(line)
    summary.counts = {name: outcome.written for name, outcome in made.items()}
    summary.metrics = {"rejected": {name: dict(outcome.reasons) for name, outcome in made.items()}}
    summary.outputs = [facts for outcome in made.values() for facts in outcome.files]
    if not made:
        raise DataError("No file can be made yet: first generate the answers with the commands above.")
    return made.values()


def _source(run: Run, stage: Convert) -> Source:
    return Source(stage.source.expanduser(), stage.columns, _default_question(run), stage.folder / "images", run.key)


def _image_folder(run: Run, source: Source) -> str:
    """The folder that images must be in: the configured one, that of the generated rows, or that of the source."""
    if run.image_folder or run.images:
        return folder_of(run.images or "", run.image_folder)
    generated = products.generated_from(source.path) if source.path == run.paths.rows.expanduser() else None
    return generated or str(source.image_folder.absolute())
