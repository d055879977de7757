"""The last lines of a run: the figure, the page, and the next command."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from vd100k.config.run import Run
from vd100k.runs import closing
from vd100k.runs.summary import Summary

SIDES = {"before": {"exact_match": 0.0}, "after": {"exact_match": 1.0}}
EVALUATED = {"metrics": SIDES, "inputs": [{"path": "labels.jsonl", "rows": 200}], "counts": {"requests": 400}}


@pytest.mark.parametrize(
    ("summary", "figure"),
    [
        (Summary("generate", counts={"rows": 12, "failed": 0, "cost": 0.03}), "12 answers, 0 failed, $0.03"),
        (Summary("generate", counts={"rows": 1, "failed": 2, "cost": None}), "1 answer, 2 failed"),
        (Summary("generate", counts={"rows": 3, "failed": 0, "cost": 0.0002}), "3 answers, 0 failed, $0.0002"),
        (Summary("convert", counts={"train": 3, "val": 0, "rejected": 1}), "3 of 4 rows kept"),
        (
            Summary("convert", counts={"train": 316, "val": 4, "rejected": 0}),
            "320 of 320 rows kept",
        ),
        (Summary("finetune", counts={"steps": 9}, metrics={"loss": [(1, 1.9), (9, 0.02)]}), "loss 1.9 → 0.02 in 9 s"),
        (Summary("evaluate", **EVALUATED), "0 % → 100 % exact on 200 held-out images"),
        (Summary("evaluate", counts={"a": 1}, metrics={"before": {"exact_match": 0.125}}), "12.5 % exact"),
        (
            Summary("pipeline", counts={"requests": 0}, steps=[vars(Summary("evaluate", **EVALUATED))]),
            "0 % → 100 % exact on 200 held-out images",
        ),
        (
            Summary(
                "pipeline",
                steps=[
                    vars(Summary("finetune", counts={"steps": 9}, metrics={"loss": [(1, 1.9), (9, 0.02)]})),
                    vars(Summary("export", counts={"model_bytes": 1_240_000_000})),
                ],
            ),
            "loss 1.9 → 0.02 in 9 s",
        ),
        (Summary("export", counts={"model_bytes": 1_240_000_000}), "merged model, 1.2 GB"),
        (Summary("export", counts={"model_bytes": 8_310_000}), "merged model, 8.3 MB"),
        (Summary("export", counts={}), None),
    ],
)
def test_a_stage_has_one_figure(summary: Summary, figure: str | None) -> None:
    found = closing.figure(vars(summary))
    assert found == figure or (found and figure and found.startswith(figure))


API = ["hardware=api", "model=gpt-4o"]
OWN = ["hardware=single-gpu", "model=qwen2-vl-7b"]


@pytest.mark.parametrize(
    ("overrides", "following"),
    [
        (
            ["stage=generate", "images='my photos'", *API, "stage.max_in_flight=4", "limit=9"],
            "stage=convert \"images='my photos'\" hardware=api model=gpt-4o",
        ),
        (["stage=generate", "images=p", *API, "preview=3"], "stage=generate images=p hardware=api model=gpt-4o"),
        (["stage=convert", "images=p", *API], f"stage=finetune images=p answers=gpt-4o {' '.join(OWN)}"),
        (
            ["stage=convert", "images=p", *OWN, "rejected=m"],
            f"stage=finetune images=p {' '.join(OWN)} rejected=m stage.method=dpo",
        ),
        (
            ["stage=generate", "images=p", *OWN, "task=question"],
            f"stage=generate images=p {' '.join(OWN)} task=answer asker=qwen2-vl-7b",
        ),
        (["stage=convert", "images=p", "format=parquet"], None),
        (["stage=export", "images=p", "seed=1,2", "-m"], None),
        (["stage=finetune", "images=p", *OWN, "+stage.args.max_steps=3"], f"stage=export images=p {' '.join(OWN)}"),
        (["stage=export", "images=p", *OWN], f"stage=serve images=p {' '.join(OWN)} weights=merged"),
        (["experiment=demo", "stage.finetune.args.lora_rank=4"], "stage=serve experiment=demo weights=merged"),
        (["stage=pipeline", "images=p", *API, "stage.steps=[generate]"], f"stage=convert images=p {' '.join(API)}"),
        (["stage=serve", *OWN], None),
    ],
)
def test_the_next_command_has_the_overrides_that_still_apply(
    parsed: Callable[..., Run], overrides: list[str], following: str | None
) -> None:
    composed = [override for override in overrides if override not in ("-m", "seed=1,2")]
    shown = closing.next_command(parsed(*composed), ["/somewhere/run.py", *overrides])
    assert shown == (following and f"python run.py {following}")
    if shown:
        parsed(*shlex.split(shown)[2:])


def test_the_last_lines_are_the_result_the_page_and_the_next_command(
    parsed: Callable[..., Run], tmp_path: Path
) -> None:
    run = parsed("stage=export", "images=p")
    (tmp_path / "report.html").touch()
    shown = closing.lines(run, Summary("export", seconds=61.4), tmp_path, ["vd100k", "stage=export", "images=p"])
    assert shown == [
        "\nexport finished in 61 s",
        f"  page    {tmp_path / 'report.html'}",
        "  next    vd100k stage=serve images=p weights=merged",
    ]


def test_a_pipeline_that_asked_nothing_says_nothing_about_requests() -> None:
    assert closing.asked(Summary("pipeline", counts={"requests": 0, "reused": 0})) == ""
    asked = closing.asked(Summary("pipeline", counts={"requests": 1, "reused": 2000}))
    assert asked == "1 request sent, 2,000 answers reused. "
