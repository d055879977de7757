"""What a report says first, and its size with many heavy pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.unit.runs.test_report import checked_as_safe, summary
from vd100k.runs.report import page

SCORES = {"exact_match": 0.5, "valid_json": 1.0, "field_accuracy": 0.25}


def noise(folder: Path, count: int) -> list[Path]:
    """Pictures that compress badly."""
    folder.mkdir()
    paths = [folder / f"{k:03}.jpg" for k in range(count)]
    for path in paths:
        Image.effect_noise((900, 700), 120).convert("RGB").save(path, quality=60)
    return paths


def evaluated(tmp_path: Path, pictures: list[Path]) -> dict[str, Any]:
    rows = [{"id": p.name, "image": str(p), "label": "a", "before": "b", "after": "a"} for p in pictures]
    (tmp_path / "m.compared.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "outputs": [{"path": str(tmp_path / "m.compared.jsonl"), "rows": len(rows), "sha256": ""}],
        "metrics": {"before": SCORES | {"exact_match": 0.0}, "after": SCORES | {"exact_match": 1.0}},
        "inputs": [{"path": "labels.jsonl", "rows": len(rows), "sha256": ""}],
        "counts": {"images": len(rows)},
        "image_folders": [str(tmp_path / "p")],
    }


def test_the_report_of_a_pipeline_says_its_result_first_and_stays_small(tmp_path: Path) -> None:
    pictures = noise(tmp_path / "p", 60)
    settings = {"hardware": {"name": "cpu", "urls": None}, "model": {"name": "m"}, "dataset": "d"}
    step = page.read(summary(tmp_path / "e", "evaluate", settings=settings, **evaluated(tmp_path, pictures)))
    whole = summary(
        *(tmp_path / "run", "pipeline"),
        **{"steps": [step, step, step], "settings": settings, "started": "2026-01-02T03:04:05+00:00", "seconds": 250},
        command=["run.py", "experiment=demo"],
    )
    path = page.write(whole)
    html = checked_as_safe(path.read_text(encoding="utf-8"))
    assert path.stat().st_size < 3_000_000
    assert "<h1>0 % → 100 % exact on 60 held-out images</h1>" in html
    assert "2026-01-02 03:04 · 4 min · $0" in html
    head = html[html.index("<header>") : html.index("</header>")]
    for told in ("experiment</span>demo", "data set</span>d", "hardware</span>cpu", "000.jpg", "before", "after"):
        assert told in head
    bars = head[head.index('class="pairs"') :]
    for told in ("exact match before: 0.0 %", "exact match after: 100.0 %", "correct fields after: 25.0 %"):
        assert f'data-tip="{told}"' in bars
    assert html.count('class="pairs"') == 1, "of a pipeline, one comparison"
    assert html.index("</header>") < html.index('id="steps"')
    assert f"36 of 60 shown; all are in {tmp_path / 'm.compared.jsonl'}" in html.replace(
        '<span class="shown">36</span>', "36"
    )
    assert "data-large=" in page.write(tmp_path / "e").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("counts", "urls", "shown"),
    [
        ({"rows": 1186, "failed": 14, "cost": 3.2}, ["https://a/v1"], "1,186 answers, 14 failed, $3.20"),
        ({"rows": 2, "failed": 0, "cost": None}, None, "$0"),
        ({"rows": 2, "failed": 0, "cost": None}, ["https://a/v1"], "2 answers, 0 failed"),
    ],
)
def test_a_cost_is_shown_only_if_it_is_known(tmp_path: Path, counts: Any, urls: Any, shown: str) -> None:
    settings = {"hardware": {"name": "h", "urls": urls}}
    html = page.write(summary(tmp_path / "run", "generate", counts=counts, settings=settings)).read_text()
    head = html[html.index("<header>") : html.index("</header>")]
    assert shown in head
    assert ("$" in head) == (counts["cost"] is not None or urls is None)


def test_boxes_in_an_answer_are_drawn_on_its_picture(tmp_path: Path) -> None:
    (picture,) = noise(tmp_path / "p", 1)
    answer = json.dumps([{"bbox_2d": [70, 70, 350, 210], "label": "<b>dog"}])
    row = {"id": "000.jpg", "image": str(picture), "question": "q", "answer": answer}
    (tmp_path / "m.jsonl").write_text(json.dumps(row) + "\n")
    outputs = [{"path": str(tmp_path / "m.jsonl"), "rows": 1, "sha256": ""}]
    more = {"outputs": outputs, "image_folders": [str(tmp_path / "p")]}
    html = checked_as_safe(page.write(summary(tmp_path / "run", "generate", **more)).read_text(encoding="utf-8"))
    assert 'viewBox="0 0 900 700"' in html
    assert html.count('<rect class="c0"') == 1
    assert "&lt;b&gt;dog</text>" in html


def test_the_boxes_of_a_row_are_drawn_instead_of_those_in_its_text(tmp_path: Path) -> None:
    (picture,) = noise(tmp_path / "p", 1)
    boxes = [{"label": "dog", "box": [70, 70, 350.5, 210]}, {"label": "cat", "box": [0, 0, 900, 700]}]
    row = {"id": "000.jpg", "image": str(picture), "question": "q", "answer": "(1,1),(2,2)", "boxes": boxes}
    (tmp_path / "m.jsonl").write_text(json.dumps(row) + "\n")
    outputs = [{"path": str(tmp_path / "m.jsonl"), "rows": 1, "sha256": ""}]
    more = {"outputs": outputs, "image_folders": [str(tmp_path / "p")]}
    html = checked_as_safe(page.write(summary(tmp_path / "run", "generate", **more)).read_text(encoding="utf-8"))
    assert html.count('<rect class="c') == 2
    assert '<rect class="c0" x="70" y="70" width="280.5" height="140"/>' in html


def test_an_evaluation_of_boxes_shows_their_mean_iou(tmp_path: Path) -> None:
    (picture,) = noise(tmp_path / "p", 1)
    right = [{"label": "dog", "box": [0, 0, 100, 100]}]
    found = {"before": None, "after": [{"label": "dog", "box": [0, 0, 100, 80]}]}
    row = {"id": "000.jpg", "image": str(picture), "label": right, "before": "?", "after": "…", "boxes": found}
    figures = {"before": SCORES | {"mean_iou": 0.0}, "after": SCORES | {"mean_iou": 0.8}}
    facts = evaluated(tmp_path, []) | {"metrics": figures}
    (tmp_path / "m.compared.jsonl").write_text(json.dumps(row) + "\n")
    facts["inputs"][0]["rows"] = 1
    html = checked_as_safe(page.write(summary(tmp_path / "run", "evaluate", **facts)).read_text(encoding="utf-8"))
    assert "<h1>mean IoU 0.000 → 0.800 on 1 held-out image</h1>" in html
    assert html.count('<rect class="c0" x="0" y="0" width="100" height="80"/>') >= 1
