"""Ask a model about every image; append rows, resume, keep failures with their reasons."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from vd100k import asking, commands
from vd100k.config import Generate, Run
from vd100k.console import say
from vd100k.records import read
from vd100k.summary import Summary, file_facts
from vd100k.tracking import track


def plan(run: Run, stage: Generate) -> list[str]:
    """The endpoints or server commands, the rows still to make, and the file they go to."""
    lines = [f"ask {run.served_name} at {url}" for url in run.hardware.urls or []]
    if run.hardware.urls is None:
        lines = ["unless such a server runs already, for the duration:", *map(str, commands.replicas(run))]
    if run.images and Path(run.images).expanduser().exists():
        wanted = asking.items(run, lambda *why: None)
        done = {asking.identify(run)(row) for row in read(run.paths.rows)}
        pending = sum(item.key not in done for item in wanted)
        lines.append(f"rows pending: {pending} of {len(wanted)}")
    return [*lines, f"append rows to {run.paths.rows}"]


def run(run: Run, stage: Generate, folder: Path, summary: Summary) -> None:
    counts = asking.Counts()
    try:
        with track(run, folder) as log:
            asking.ask_all(run, folder, counts)
            log(asdict(counts))
    finally:
        summary.counts = asdict(counts)
        summary.inputs = [{"path": run.images, "rows": counts.images}]
        if run.paths.rows.exists():
            summary.outputs = [file_facts(run.paths.rows, sum(1 for _ in read(run.paths.rows)))]
    asking.refuse_if_all_failed(run, counts)
    say(
        f"{counts.rows} rows ({counts.reused} reused, {counts.failed} failed) "
        f"with {counts.requests} requests{'' if counts.cost is None else f' for ${counts.cost:.4f}'}: {run.paths.rows}"
    )
