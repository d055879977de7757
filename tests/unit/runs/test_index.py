"""``outputs/index.html``: all runs on one page, made from their summaries at the end of each run."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.conftest import draw_pictures
from tests.unit.runs.test_report import NASTY, Tags, summary
from vd100k.runs.report import index

Call = Callable[..., subprocess.CompletedProcess[str]]


def a_run(outputs: Path, name: str, stage: str = "finetune", **more: object) -> Path:
    folder = outputs / name
    folder.mkdir(parents=True)
    return summary(folder, stage, **more)


def test_the_index_lists_the_newest_runs_first_with_their_results(tmp_path: Path) -> None:
    settings = {"model": {"name": "qwen"}, "dataset": NASTY}
    loss, counts = {"loss": [[1, 2.0], [9, 0.02]]}, {"steps": 9}
    early, late, job = "2026-01-02T03:04:00+00:00", "2026-05-06T07:08:00+00:00", "2026-03-01T00:00:00+00:00"
    one = a_run(
        tmp_path, "runs/2026-01-02/03-04-finetune", metrics=loss, counts=counts, settings=settings, started=early
    )
    (one / "report.html").touch()
    a_run(tmp_path, "runs/2026-05-06/07-08-convert", "convert", status="failed", error="no rows\nthere", started=late)
    counts = {"rows": 0, "failed": 50}
    a_run(tmp_path, "runs/2026-05-06/07-07-generate", "generate", status="failed", error="Stopped: 50", counts=counts)
    a_run(tmp_path, "sweeps/2026-03-01/00-00-finetune/0-a=1", started=job)
    a_run(tmp_path, "runs/2026-05-06/07-09-report", "report")
    broken = tmp_path / "runs/2026-05-06/broken"
    broken.mkdir()
    (broken / "summary.json").write_text('{"stage": 3')
    html = index.write(tmp_path).read_text(encoding="utf-8")
    assert html.index("2026-05-06 07:08") < html.index("2026-03-01 00:00") < html.index("2026-01-02 03:04")
    assert "loss 2 → 0.02 in 9 steps" in html
    assert 'href="runs/2026-01-02/03-04-finetune/report.html"' in html
    assert "no rows</td>" in html
    assert "Stopped: 50</td>" in html, "of a run that failed, the reason says more than its counts"
    assert "4 runs" in html, "neither the report of a run nor a broken summary is one"
    assert "&lt;script&gt;alert" in html
    assert Tags(html).tags.count("script") == 1


def test_the_index_of_thousands_of_runs_has_the_newest_and_is_made_quickly(tmp_path: Path) -> None:
    for k in range(3000):
        a_run(tmp_path, f"runs/2026-01-{k // 200 + 1:02}/{k:05}-finetune", started="2026-01-01T00:00:00+00:00")
    began = time.monotonic()
    html = index.write(tmp_path).read_text(encoding="utf-8")
    assert time.monotonic() - began < 5
    assert html.count("<tr title=") == index.MOST
    assert "02999-finetune" in html
    assert "01999-finetune" not in html


def test_a_run_writes_the_index_and_one_that_cannot_be_written_fails_nothing(vd100k: Call, tmp_path: Path) -> None:
    draws = ["stage=render", "stage.train=2", "stage.heldout=2"]
    assert vd100k(*draws).returncode == 0
    assert (tmp_path / "outputs/index.html").read_text(encoding="utf-8").count("<tr title=") == 1
    first = (tmp_path / "outputs/latest/report.html").resolve()
    assert 'href="../../../index.html"' in first.read_text(encoding="utf-8"), "also in the report of the first run"
    assert (first.parent / "../../../index.html").resolve() == (tmp_path / "outputs/index.html").resolve()
    assert vd100k("stage=convert", "dataset=nothing-there").returncode == 1
    html = (tmp_path / "outputs/index.html").read_text(encoding="utf-8")
    assert html.count("<tr title=") == 2
    assert html.count('class="badge failed"') == 1
    (tmp_path / "outputs/index.html").unlink()
    (tmp_path / "outputs/index.html").mkdir()
    done = vd100k(*draws)
    assert done.returncode == 0, done.stderr
    assert "index.html could not be written" in done.stdout


def test_all_reports_and_the_index_are_made_again(vd100k: Call, tmp_path: Path) -> None:
    pictures = draw_pictures(tmp_path / "p", 2)
    rows = [{"image": name.name, "question": "q", "answer": "a"} for name in sorted(pictures.iterdir())]
    (pictures / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert vd100k("stage=convert", "dataset=d", "stage.source=p/rows.jsonl").returncode == 0
    assert vd100k("stage=convert", "dataset=nothing-there").returncode == 1
    reports = sorted((tmp_path / "outputs/runs").glob("*/*/report.html"))
    before = [path.read_text(encoding="utf-8") for path in reports]
    for path in [*reports, tmp_path / "outputs/index.html"]:
        path.unlink()
    broken = tmp_path / "outputs/runs/2026-01-01/broken"
    broken.mkdir(parents=True)
    (broken / "summary.json").write_text("{}")
    done = vd100k("stage=report", "run=all")
    assert done.returncode == 0, done.stderr
    assert "2 reports written again" in done.stdout
    assert "broken" in done.stdout
    assert [path.read_text(encoding="utf-8") for path in reports] == before
    assert (tmp_path / "outputs/index.html").exists()
    assert "write report.html in each run folder" in vd100k("stage=report", "run=all", "dry_run=true").stdout
