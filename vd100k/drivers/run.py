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
from vd100k.generation import run as generation
from vd100k.generation.progress import Progress
from vd100k.generation.run import conclude, decide, opened, rows_path
from vd100k.generation.scheduler import refuse_full_disk
from vd100k.generation.survey import Survey
from vd100k.generation.work_items import OpenItems, changed_items
from vd100k.io import atomic
from vd100k.io.jsonl import Row
from vd100k.ledger.known import Known
from vd100k.ledger.rows import Ledger


def ask_all(run: Run, settings: Generate, logs: Path, progress: Progress) -> None:
    """Ask about each image once, as ``generation.run.ask_all`` does, by as many drivers as ``cluster`` says.

    Raises:
        DataError: see there.
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
        conclude(run, settings, ledger, progress)


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
    work = Work(run, settings, decided_by, known, logs.absolute(), serving.keys(run))
    try:
        with placement.placed(run, Driver, _room(run), -1, work) as actors:
            say(f"asking from {run.cluster.drivers} drivers; their logs: {logs}/driver-*.log")
            yield actors
    finally:
        known.unlink(missing_ok=True)
