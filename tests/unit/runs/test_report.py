"""``report.html`` and ``stage=compare``: made from a run's folder, and safe with any content."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chat_server import chat_server
from tests.conftest import draw_pictures
from vd100k.errors import DataError
from vd100k.io.redaction import redact_argument
from vd100k.pages import pictures, samples
from vd100k.runs.report import page

Call = Callable[..., subprocess.CompletedProcess[str]]
NASTY = "<script>alert(1)</script><img src=http://192.0.2.1/x onerror=alert(1)>{{ 7*7 }}"


class Tags(HTMLParser):
    """The elements of a page and the addresses that they refer to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        assert not any(name.startswith("on") for name, _ in attrs)


def checked_as_safe(html: str) -> str:
    """The page itself, after checking that only its own script may run and that it loads nothing from elsewhere."""
    found = Tags(html)
    assert not {"iframe", "object", "link", "base"} & set(found.tags)
    assert found.tags.count("script") == found.tags.count("style") == 1
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert policy
    for tag in ("script", "style"):
        inner = html.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
        digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy[1]
    assert policy[1].startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy[1]
    assert all(
        re.match(r"data:image/|#\d+$|\d+-\w+/report\.html$|(\.\./)+index\.html$", address)
        for address in found.addresses
    )
    return html


def summary(folder: Path, stage: str, **more: Any) -> Path:
    folder.mkdir(exist_ok=True)
    content = {
        **{"stage": stage, "status": "ok", "error": None, "counts": {}, "metrics": {}, "inputs": [], "outputs": []},
        **{"seconds": 1.5, "steps": [], "settings": {}, "command": ["run.py", f"stage={stage}"]},
    }
    (folder / "summary.json").write_text(json.dumps(content | more), encoding="utf-8")
    return folder


def test_the_report_of_a_generation_shows_answers_and_failures(vd100k: Call, tmp_path: Path) -> None:
    pictures = draw_pictures(tmp_path / "<b>p", 6)
    (pictures / "<i>x.png").write_bytes((pictures / "00.png").read_bytes())

    def script(number: int, body: dict[str, Any]) -> Any:
        return (400, {}, '{"error": {"message": "<b>no</b>"}}') if number == 4 else NASTY

    with chat_server(script) as server:
        done = vd100k(
            *("stage=generate", f"images='{pictures}'", "dataset=d", "hardware=api", "model.served_name=m"),
            *(f"hardware.urls=[{server.url}]", "stage.max_in_flight=1"),
        )
    assert done.returncode == 0, done.stderr
    html = checked_as_safe((tmp_path / "outputs/latest/report.html").read_text(encoding="utf-8"))
    assert html.count("data:image/webp") == 7, "of six answers, and of the image that failed"
    assert "&lt;script&gt;alert(1)" in html
    assert "&lt;i&gt;x.png" in html
    assert "http_400" in html
    assert "Length of the answers, tokens" in html
    assert "{{ 7*7 }}" in html
    (tmp_path / "outputs/latest/report.html").unlink()
    done = vd100k("stage=report")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "outputs/latest/report.html").read_text(encoding="utf-8") == html


def test_the_report_of_a_conversion_shows_rejected_rows(tmp_path: Path) -> None:
    image = str(next(draw_pictures(tmp_path / "p", 1).iterdir()))
    rejected = [
        {"id": "a", "reason": "echo", "detail": "the question", "row": {"image": image, "answer": NASTY}},
        {"id": None, "reason": "bad_line", "detail": "no JSON", "row": '{"half'},
        {"id": "b", "reason": "empty", "detail": "", "row": {"image": "/gone.png", "answer": None}},
    ]
    (tmp_path / "rejected.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rejected))
    (tmp_path / "train.jsonl").write_text("{}\n")
    outputs = [{"path": str(tmp_path / "train.jsonl"), "rows": 1, "sha256": ""}]
    inside = [str(tmp_path / "p")]
    folder = summary(
        tmp_path / "run",
        "convert",
        image_folders=inside,
        outputs=outputs,
        metrics={"rejected": {"echo": 1, "empty": 7}},
    )
    html = checked_as_safe(page.write(folder).read_text(encoding="utf-8"))
    assert html.index("empty</span>") < html.index("echo</span>"), "the most frequent reason must be first"
    assert html.count("data:image/webp") == 1
    assert html.count("no image") == 2


def test_a_report_shows_no_picture_from_outside_the_declared_folder(vd100k: Call, tmp_path: Path) -> None:
    """Whichever way a row names it, and whatever the row was rejected for; a report is made to be sent on."""
    inside, secret = draw_pictures(tmp_path / "p", 3), draw_pictures(tmp_path / "secret", 1, seed=9) / "00.png"
    (inside / "link.png").symlink_to(secret)
    (inside / "folder").symlink_to(secret.parent)
    named = ["../secret/00.png", str(secret), "link.png", "folder/00.png", str(inside / "link.png"), "secret/00.png"]
    rows = [{"image": "00.png", "question": "q", "answer": ""}]  # rejected, with its picture
    rows += [{"image": name, "question": "q", "answer": ""} for name in named]
    rows += [{"image": "01.png", "question": "q", "answer": "a"}]
    (inside / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    reports = []
    for rules in ([], [f"stage.rules.image_{rule}=false" for rule in ("missing", "unreadable", "small", "changed")]):
        done = vd100k("stage=convert", "dataset=d", "stage.source=p/rows.jsonl", *rules)
        assert done.returncode == 0, done.stderr
        reports.append(checked_as_safe((tmp_path / "outputs/latest/report.html").read_text(encoding="utf-8")))
        assert reports[-1].count("data:image/webp") == 1
    assert vd100k("stage=report").returncode == 0
    reports.append((tmp_path / "outputs/latest/report.html").read_text(encoding="utf-8"))
    assert reports[-1] == reports[-2]
    alone = pictures.thumbnail(str(secret), [str(secret.parent)])
    assert alone
    assert all(alone not in html for html in reports)


def test_a_report_reads_only_regular_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert pictures.thumbnail("pipe.png", [str(tmp_path)]) is None
    assert pictures.thumbnail(["a"], [str(tmp_path)]) is None
    assert pictures.thumbnail("a\0b", [str(tmp_path)]) is None


def test_the_report_of_an_evaluation_shows_the_worst_answers_first(tmp_path: Path) -> None:
    rows = [
        {"id": "good", "label": {"a": 1}, "before": "?", "after": '{"a": 1}'},
        {"id": "bad", "label": {"a": 1}, "before": '{"a": 1}', "after": NASTY},
        {"id": "none", "label": {"a": 1}, "before": None, "after": None},
    ]
    (tmp_path / "m.compared.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores = {"exact_match": 0.5, "valid_json": 1.0, "field_accuracy": 0.25}
    outputs = [{"path": str(tmp_path / "m.compared.jsonl"), "rows": 3, "sha256": ""}]
    folder = summary(tmp_path / "run", "evaluate", outputs=outputs, metrics={"before": scores, "after": scores})
    html = checked_as_safe(page.write(folder).read_text(encoding="utf-8"))
    gallery = html[html.index(" data-gallery>") :]
    assert gallery.index(">bad<") < gallery.index(">none<") < gallery.index(">good<")
    assert '<option value="became better">became better (1)</option>' in gallery
    assert '<option value="became worse">became worse (1)</option>' in gallery
    assert '<option value="wrong">wrong (1)</option>' in gallery
    assert "50.0 %" in html


def test_the_reports_of_a_training_and_of_its_pipeline_show_the_training_curves(tmp_path: Path) -> None:
    settings = {"stage": {"method": "sft", "args": {"lora_rank": 8, "system": NASTY, "dropped": None}}}
    metrics = {"loss": [[1, 2.0], [2, 1.0]], "eval_loss": []}
    folder = summary(tmp_path / "run", "finetune", metrics=metrics, settings=settings)
    step = page.read(folder)
    html = checked_as_safe(page.write(folder).read_text(encoding="utf-8"))
    assert "data-points=" in html
    assert "lora_rank" in html
    assert "dropped" not in html.split("How it was run")[0]
    whole = summary(tmp_path / "whole", "pipeline", steps=[step, {**step, "status": "failed", "error": NASTY}])
    (whole / "1-finetune").mkdir()
    (whole / "1-finetune" / "report.html").write_text("")
    html = checked_as_safe(page.write(whole).read_text(encoding="utf-8"))
    assert html.count("1-finetune/report.html") == 1
    assert html.count("data-points=") == 2


def test_the_report_of_a_failed_run_shows_the_error(vd100k: Call, tmp_path: Path) -> None:
    done = vd100k("stage=convert", "dataset=nothing-there")
    assert done.returncode == 1
    html = checked_as_safe((tmp_path / "outputs/latest/report.html").read_text(encoding="utf-8"))
    assert "failed" in html
    assert "nothing-there" in html


def test_a_report_of_many_rows_uses_a_sample(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    line = json.dumps({"id": "x", "image": "/gone.png", "question": "?", "answer": "a" * 300}) + "\n"
    rows.write_text(line * 100_000)
    outputs = [{"path": str(rows), "rows": 100_000, "sha256": ""}]
    failures = tmp_path / "rows.failures.jsonl"
    failures.write_text('{"id": "x", "reason": "http_400", "detail": ""}\n' * 7_000 + '{"reason": "rare"}\n')
    began = time.monotonic()
    made = page.write(summary(tmp_path / "run", "generate", outputs=outputs))
    assert made.stat().st_size < 200_000
    assert time.monotonic() - began < 10
    assert "<span>7,000</span>" in made.read_text(encoding="utf-8"), "all failures must be counted, not a sample"
    assert "rare" in made.read_text(encoding="utf-8")
    parsed = samples.sample(rows)
    assert (len(parsed.rows), parsed.total) == (samples.PARSED, 100_000)
    assert "(5,000 of 100,000 rows)" in made.read_text(encoding="utf-8")


def test_a_summary_without_settings_is_accepted_and_an_invalid_one_is_refused(vd100k: Call, tmp_path: Path) -> None:
    folder = summary(tmp_path / "run", "finetune", metrics={"loss": [[1, 2.0]]})
    assert "data-points=" in page.write(folder).read_text(encoding="utf-8")
    summary(tmp_path / "run", "finetune", metrics=7)
    done = vd100k("stage=report", "run=run")
    assert "is not in the format that vd100k writes" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("stage", ["generate", "render"])
def test_secrets_are_not_saved_in_the_run_folder(vd100k: Call, tmp_path: Path, stage: str) -> None:
    """For a run that cannot reach an address with a secret, and for a run that is tracked with W&B."""
    secret = "sk-do-not-keep-me"
    urls = f"hardware.urls=['http://me:{secret}@127.0.0.1:1/v1','http://127.0.0.1:1/v1?api_key={secret}']"
    asks = ["stage.endpoint_wait_s=0", "stage.connect_timeout_s=1", "model.served_name=m"]
    asks.append(f"images={draw_pictures(tmp_path / 'p', 1)}")
    draws = ["stage.train=2", "stage.heldout=2", "tracking=wandb"]
    done = vd100k(
        *(f"stage={stage}", "hardware=api", urls),
        *(f"+task.sampling.some_token={secret}", *(asks if stage == "generate" else draws)),
    )
    assert done.returncode == (stage == "generate"), done.stderr
    run = (tmp_path / "outputs/latest").resolve()
    kept = [path for path in run.rglob("*") if path.is_file() and ".hydra" not in path.parts]
    assert {"summary.json", "report.html"} <= {path.name for path in kept}
    assert any(path.suffix == ".wandb" for path in kept) == (stage == "render")
    assert all(secret.encode() not in path.read_bytes() for path in kept)
    assert "(hidden)" in (run / "summary.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "text",
    [
        "http://me:SECRET@h/v1",
        "https://SECRET@h/v1",
        "https://u:p/SECRET@h",
        "https://h/v1?api_key=SECRET&x=1",
        "+stage.env.HF_TOKEN=SECRET",
        "hardware.engine.env={HF_TOKEN:SECRET,X:1}",
        "stage.env.PGPASSWORD=SECRET",
    ],
)
def test_secrets_on_the_command_line_are_hidden(text: str) -> None:
    assert "SECRET" not in redact_argument(text)
    assert redact_argument("model.api_key_env=OPENAI_API_KEY") == "model.api_key_env=OPENAI_API_KEY"
    assert redact_argument("task.sampling.max_tokens=5") == "task.sampling.max_tokens=5"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
OURS = ["stage", "status", "counts", "metrics", "settings", "outputs", "steps", "seconds", "command", "image_folders"]


@given(
    st.dictionaries(st.sampled_from([*OURS, "error", "versions"]), json_values, max_size=5),
    st.sampled_from(["generate", "convert", "finetune", "evaluate", "pipeline", "x"]),
)
def test_the_summary_of_a_run_with_any_content_is_reported_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any], stage: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    whole = {"stage": stage, "status": "ok", "outputs": [], "metrics": {}, "seconds": 1.0} | content
    (folder / "summary.json").write_text(json.dumps(whole))
    try:
        page.write(folder)
    except DataError as refused:
        assert "summary.json" in str(refused)  # noqa: PT017 (either outcome is right)


def test_an_evaluation_shows_its_parts_and_those_that_became_worse_first(tmp_path: Path) -> None:
    rows = [
        {
            **{"id": f"{k:03}", "label": "a cat on a mat", "before": "?", "after": NASTY},
            "scores": {"before": {"exact_match": 0, "chrf": 0.5}, "after": {"exact_match": 0, "chrf": value}},
        }
        for k, value in enumerate([*[0.2] * 50, *[0.6] * 3, 0.1])
    ]
    rows[53]["scores"]["before"]["chrf"] = 0.1
    (tmp_path / "m.compared.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    outputs = [{"path": str(tmp_path / "m.compared.jsonl"), "rows": 54, "sha256": ""}]
    change = {"change": -0.3, "low": -0.4, "high": -0.2, "better": 3, "worse": 50, "p": 0.001, "verdict": "worse"}
    part = {"name": NASTY, "images": 9, "figures": {"before": 0.5, "after": 0.2}, "change": change | {"needed": None}}
    part["intervals"] = {"before": [0.4, 0.6], "after": [0.1, 0.3]}
    figures = {"exact_match": 0.0, "chrf": 0.5}
    certainty = {"main": "chrf", "shown": ["chrf"], "slices": {NASTY: [part]}, "fields": [part]}
    certainty["retention"] = [part | {"verdict": "forgot: -30 points (-40 to -20)"}]
    metrics = {"before": figures, "after": figures, "also": {"vqa": {"before": figures, "after": figures}}}
    folder = summary(tmp_path / "run", "evaluate", outputs=outputs, metrics=metrics, certainty=certainty)
    html = checked_as_safe(page.write(folder).read_text(encoding="utf-8"))
    assert '<td class="wrong">forgot: -30 points (-40 to -20)</td>' in html
    assert html.count("9 images: too few to say much") == 3
    gallery = html[html.index(" data-gallery>") :]
    assert '<option value="became better">became better (3)</option>' in gallery
    assert '<option value="partly right">partly right (1)</option>' in gallery
    assert "after, chrF 20 %" in gallery


def test_a_folder_that_is_not_a_run_is_refused(vd100k: Call, tmp_path: Path) -> None:
    for content in (None, "{", "[]", '{"stage": "x"}'):
        if content is not None:
            (tmp_path / "summary.json").write_text(content)
        with pytest.raises(DataError, match=r"outputs/runs"):
            page.read(tmp_path)
    done = vd100k("stage=report", "run=nowhere")
    assert "cannot be read as the summary of a run" in done.stderr
    assert "Traceback" not in done.stderr


@given(st.lists(st.integers(0, 10_000)))
def test_a_histogram_counts_everything(values: list[int]) -> None:
    found = samples.histogram(values)
    assert sum(count for _, count in found) == len(values)
    assert len(found) <= samples.BINS


@given(st.lists(st.integers(), max_size=200), st.integers(1, 50))
def test_a_sample_has_at_most_the_requested_size(values: list[int], most: int) -> None:
    rows = [{"n": value} for value in values]
    assert min(len(rows), (most + 1) // 2) <= len(samples.spread(rows, most)) <= most


def test_compare_shows_the_settings_that_differ_and_the_results(vd100k: Call, tmp_path: Path) -> None:
    for name, rank, loss in (("one", 4, 0.5), ("two", 8, 0.25)):
        settings = {"stage": {"args": {"lora_rank": rank, "seed": 1}}, "model": {"name": "[m]"}}
        summary(tmp_path / name, "finetune", settings=settings, metrics={"loss": [[1, loss]]})
    done = vd100k("stage=compare", "runs=[one,two]")
    assert done.returncode == 0, done.stderr
    shown = {line.split("│")[1].strip(): line for line in done.stdout.splitlines() if "│" in line}
    assert "4" in shown["stage.args.lora_rank"]
    assert "8" in shown["stage.args.lora_rank"]
    assert "stage.args.seed" not in shown
    assert "0.25" in shown["loss"]
    done = vd100k("stage=compare", "runs=[one]")
    assert "runs=[FOLDER,FOLDER]" in done.stderr
