"""Serve a web page on which people say of a sample of answers whether they are right, until Ctrl-C."""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from vd100k.boxes import frames
from vd100k.config.run import Run
from vd100k.config.stages import Label
from vd100k.console import say, waiting
from vd100k.dataset.products import generated_from
from vd100k.errors import DataError
from vd100k.io import jsonl
from vd100k.labelling import draw, ledger
from vd100k.labelling.labels import identity
from vd100k.labelling.session import Session
from vd100k.runs import rows_elsewhere
from vd100k.runs.needs import Need
from vd100k.runs.summary import Summary, file_facts, image_folders
from vd100k.runs.tracker import Tracker
from vd100k.web import address

SHOWN = 5  # rows that a dry run names


def needs(run: Run, stage: Label) -> Iterator[Need]:
    yield Need(lambda: _faults(run, stage), stage.source, given=stage.source != run.paths.rows)


def makes(run: Run, stage: Label) -> list[Path]:
    return [stage.labels]


def plan(run: Run, stage: Label) -> list[str]:
    """The rows that would be shown, those of them that have a label already, and the file of the labels."""
    lines = [f"append labels to {stage.labels}", f"serve a page at {address.address(stage)}"]
    if not stage.source.exists():
        return [f"draw {stage.rows:,} rows of {stage.source} by seed {run.seed}", *lines]
    sample, notes = draw.of_stage(run, stage)
    done, _ = ledger.last_labels(stage.labels, _labeller(stage))
    labelled = sum(identity(drawn.row) in done for drawn in sample)
    first = ", ".join(drawn.row["id"] for drawn in sample[:SHOWN])
    shown = f"show {len(sample):,} rows of {stage.source}, drawn by seed {run.seed}: {first}, …"
    return [*notes, shown, f"labelled by {_labeller(stage)} already: {labelled:,} of {len(sample):,}", *lines]


def run(run: Run, stage: Label, folder: Path, summary: Summary, tracker: Tracker) -> None:
    sample, notes = draw.of_stage(run, stage)
    summary.image_folders = [_image_folder(run, stage)]
    with ledger.Ledger(stage.labels, _labeller(stage)) as labels:
        session = Session(sample, labels)
        for note in (*notes, *labels.faults):
            say(note)
        if session.next_open() is None:
            say(
                f"{labels.by} has labelled all {len(sample):,} rows of the sample already. "
                f"Set {run.key}.rows=N for a larger sample, or {run.key}.labeller=NAME for the labels of someone else."
            )
        else:
            address.check(stage)
            _serve(run, stage, session)
        _finish(session, folder, summary, stage)


def _serve(run: Run, stage: Label, session: Session) -> None:
    """Show the page until Ctrl-C."""
    with TemporaryDirectory(prefix="vd100k-page-") as uploads:
        with waiting("building the page"):
            address.prepare_gradio(uploads)
            from vd100k.labelling import page, view  # takes seconds
            from vd100k.web import server

            built = page.build(view.View(session, _image_folder(run, stage), frames.of(run.model)))
        with server.opened(stage, built, page.CSS, page.HEAD):
            say(f"\n  page    {address.address(stage)}\n  labels  {stage.labels}, by {session.ledger.by}\n")
            say("Ctrl-C stops it; every label is saved at once.")
            try:
                while True:
                    time.sleep(1)
            except KeyboardInterrupt:
                say("stopping")


def _finish(session: Session, folder: Path, summary: Summary, stage: Label) -> None:
    """Say what the labels say, and keep the labelled rows for the report."""
    counted = session.tally
    labelled = folder / "labelled.jsonl"
    jsonl.write(labelled, session.labelled_rows())
    say(f"{counted.labelled:,} of {counted.rows:,} rows labelled, {counted.estimate}: {stage.labels}")
    summary.counts = vars(counted)
    summary.inputs = [file_facts(stage.source)]
    summary.outputs = [file_facts(labelled, counted.labelled), file_facts(stage.labels)]


def _faults(run: Run, stage: Label) -> Iterator[str]:
    """What keeps all rows from being read, with the remedy."""
    if stage.source.exists():
        return
    if stage.source == run.paths.rows and (parts := rows_elsewhere.not_joined(run, stage.source)):
        yield parts
        return
    notes = rows_elsewhere.other_tasks(run) if stage.source == run.paths.rows else []
    missing = (
        f"{stage.source}: there are no such rows. Generate them first (python run.py stage=generate …), "
        f"or set {run.key}.source=PATH."
    )
    yield "\n".join([missing, *notes])


def _image_folder(run: Run, stage: Label) -> str:
    """The folder that images must be in: the declared one, or that of the rows."""
    declared = image_folders(run)
    return declared[0] if declared else generated_from(stage.source) or str(stage.source.parent.absolute())


def _labeller(stage: Label) -> str:
    """The name that is recorded in labels.

    Raises:
        DataError: none is set, and the user of this process has no name, as in some containers.
    """
    if stage.labeller:
        return stage.labeller
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        raise DataError(
            "Your login name is unknown: set stage.labeller=NAME, which is recorded in each label."
        ) from None
