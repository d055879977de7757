"""``stage=generate`` with ``cluster.drivers``: several processes ask, and one ledger has all answers in the end.

Each driver asks about slices of the images, with a ledger for each slice, which is joined with that of the run when the
slice is over. So one process writes each file, and whatever is killed, the next process continues with what is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
from collections.abc import Iterator
from pathlib import Path

from vd100k.cluster import placement, serving
from vd100k.cluster.placement import Placed, Room
from vd100k.config.run import Run
from vd100k.config.stages import Generate
from vd100k.console import say
from vd100k.drivers.dispatch import Dispatch
from vd100k.drivers.driver import Driver, Work
from vd100k.drivers.slices import SLICES
from vd100k.errors import DataError
from vd100k.generation import run as generation
from vd100k.generation.progress import Progress
from vd100k.generation.run import conclude, decide, opened, rows_path
from vd100k.generation.scheduler import refuse_full_disk
from vd100k.generation.survey import Survey
from vd100k.generation.work_items import OpenItems, changed_items, unit_name
from vd100k.io import atomic
from vd100k.io.jsonl import Row
from vd100k.ledger.known import Known
from vd100k.ledger.rows import Ledger
from vd100k.stores import urls


def ask_all(run: Run, settings: Generate, logs: Path, progress: Progress) -> None:
    """Ask about each image once, as ``generation.run.ask_all`` does, by as many drivers as ``cluster`` says.

    Raises:
        DataError: see there, or the drivers did not see all images.
        ServerError: see there, or there is no such cluster, or it has no room for the drivers.
        KeyboardInterrupt: after Ctrl-C, once the requests in flight are finished.
    """
    if not _several(run):
        generation.ask_all(run, settings, logs, progress)
        return
    decided_by = decide(run, settings)
    with opened(run, settings, decided_by, rows_path(run)) as ledger:
        survey = Survey(run, ledger, None)
        # Rows about images that have changed are set aside before their images count as open.
        next(changed_items(run, ledger, progress, survey.changed, None), None)
        if next(OpenItems(run, ledger, progress, settings.retry_failed, None), None):
            refuse_full_disk(ledger.path, settings.min_free_disk_mb, run.key)
            with serving.fleet(run, logs) as servers, _placed(run, settings, logs, decided_by, ledger) as actors:
                dispatch = Dispatch(run, settings, actors, ledger, progress, servers, survey)
                asyncio.run(dispatch.run())
            if dispatch.end:
                raise dispatch.end
            _require_all(run, ledger)
        conclude(run, settings, ledger, progress)


def _require_all(run: Run, ledger: Ledger) -> None:
    """Raise DataError if an image has neither an answer nor a failure: each driver has listed the images itself."""
    for item in OpenItems(run, ledger, Progress(unit_name(run)), False, None):
        if any(item.key(question) not in ledger.failed for question in item.questions):
            raise DataError(
                f"{item.image.id}, and perhaps others, were not asked about: the machines of the drivers do not see "
                f"the same images in {run.images}, or some were added meanwhile. The same command asks about the rest."
            )


def describe(run: Run, settings: Generate) -> list[str]:
    """The lines of a dry run about the drivers; none if there is one."""
    if not _several(run):
        return []
    return [
        f"ask from {_room(run)}, anywhere in the cluster, with up to {settings.max_in_flight} requests in flight each",
        f"{SLICES} slices of the images, the last ones split: {rows_path(run).stem}.slice-K-of-{SLICES}.jsonl until "
        "they are joined",
    ]


def _several(run: Run) -> bool:
    return run.cluster.drivers > 1 and not run.preview


def _room(run: Run) -> Room:
    drivers = run.cluster.drivers
    remedy = "Choose fewer drivers (cluster.drivers)"
    return Room(drivers, {"CPU": 1.0}, "drivers", f"cluster.drivers={drivers}", remedy, apart=False)


@contextlib.contextmanager
def _placed(run: Run, settings: Generate, logs: Path, decided_by: Row, ledger: Ledger) -> Iterator[Placed]:
    known = logs.absolute() / "known.pickle"
    atomic.replace(known, [pickle.dumps(Known(ledger.path.absolute(), ledger.done, ledger.failed))])
    variables = serving.keys(run) | urls.credentials(run.images, run.image_folder)
    work = Work(run, settings, decided_by, known, logs.absolute(), variables)
    try:
        with placement.placed(run, Driver, _room(run), -1, work) as actors:
            say(f"asking from {run.cluster.drivers} drivers; their logs: {logs}/driver-*.log")
            yield actors
    finally:
        known.unlink(missing_ok=True)
