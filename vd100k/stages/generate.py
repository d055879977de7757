"""Ask a model about every image; append rows, resume, keep failures with their reasons."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from vd100k.config.run import Run
from vd100k.config.stages import Generate
from vd100k.console import say
from vd100k.engines import commands
from vd100k.generation import run as asking
from vd100k.generation import work_items as work
from vd100k.generation.ledger import read
from vd100k.generation.progress import Counts
from vd100k.io import append_log as journal
from vd100k.runs.summary import Summary, file_facts
from vd100k.runs.tracker import Tracker


def plan(run: Run, stage: Generate) -> list[str]:
    """The endpoints or server commands, the rows still to make, and the file they go to."""
    lines = commands.asked(run)
    if run.images and Path(run.images).expanduser().exists():
        identify = work.identify(run)
        done = {identify(row) for row in read(asking.rows_path(run))}
        wanted = [one.key(question) for one in work.every(run, lambda *why: None) for question in one.questions]
        lines.append(f"rows pending: {sum(key not in done for key in wanted)} of {len(wanted)}")
    return [*lines, f"append rows to {asking.rows_path(run)}"]


def _figures(counts: Counts) -> Callable[[], dict[str, float]]:
    """Looks at the counts: as they stand, and rows a second since the last look; nothing before the first request."""
    then, before = time.monotonic(), 0

    def look() -> dict[str, float]:
        nonlocal then, before
        if not counts.requests:
            return {}
        now, fresh = time.monotonic(), counts.rows - counts.reused
        rate, then, before = (fresh - before) / max(now - then, 1e-9), now, fresh
        known = {name: value for name, value in asdict(counts).items() if value is not None}
        return {f"generate/{name}": value for name, value in (known | {"rows_per_s": rate}).items()}

    return look


def run(run: Run, stage: Generate, folder: Path, summary: Summary, tracker: Tracker) -> None:
    counts, rows = Counts(), asking.rows_path(run)
    look = _figures(counts)
    try:
        with tracker.following(look):
            asking.ask_all(run, folder, counts)
    finally:
        summary.counts = asdict(counts)
        summary.inputs = [{"path": run.images, "rows": counts.images}]
        if rows.exists():
            summary.outputs = [file_facts(rows, sum(1 for _ in journal.lines(rows)))]
        if counts.requests:
            tracker.log(look())
        else:
            tracker.leave_out()
    if run.preview:
        from vd100k.generation import preview  # only now: it takes a while to import

        say(f"\nWith pictures: {preview.show(run, rows, folder)}\nThe whole run takes these rows over.")
    asking.refuse_if_all_failed(run, counts)
    say(
        f"{counts.rows} rows ({counts.reused} reused, {counts.failed} failed) "
        f"with {counts.requests} requests{'' if counts.cost is None else f' for ${counts.cost:.4f}'}: {rows}"
    )
