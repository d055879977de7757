"""Copies of an image stay on one side of the split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.similarity.pictures import CHANGES, photo
from vd100k import stages
from vd100k.config.run import Run
from vd100k.conversion.splits import GIVEN_HELD_OUT, GIVEN_TRAIN, TRAIN, VAL, _decide
from vd100k.io import jsonl
from vd100k.io.jsonl import read_rows
from vd100k.similarity.clusters import Member

COPIED = 8  # of 24 images, every third


def rows(folder: Path, splits: Callable[[str], str | None] = lambda name: None) -> Path:
    """Writes rows about 24 photos, every third of which has a copy."""
    folder.mkdir()
    for k in range(24):
        photo(k).save(folder / f"{k:02d}.png")
    for k, change in zip(range(0, 24, 3), [*CHANGES.values()] * 2, strict=False):
        change(photo(k)).save(folder / f"{k:02d}-copy.png")
    made = []
    for path in sorted(folder.glob("*.png")):
        split = splits(path.stem)
        made.append({"image": path.name, "question": "q", "answer": "a", **({"split": split} if split else {})})
    jsonl.write(folder / "rows.jsonl", made)
    return folder / "rows.jsonl"


def convert(parsed: Callable[..., Run], tmp_path: Path, source: Path, *overrides: str) -> Any:
    fixed = ["stage=convert", "dataset=photos", "tracking=none", f"output_dir={tmp_path / 'outputs'}"]
    run = parsed(*fixed, f"stage.source={source}", *overrides)
    return stages.execute(run, tmp_path / "run", []), run.stage.folder


def sides(folder: Path) -> dict[str, str]:
    """The side of each image, by its name."""
    files = {side: folder / f"{side}.jsonl" for side in ("train", "val", "test")}
    return {Path(row["images"][0]).stem: side for side, path in files.items() for row in read_rows(path)}


def test_a_copy_is_on_the_side_of_its_original(parsed: Callable[..., Run], tmp_path: Path) -> None:
    source = rows(tmp_path / "photos")
    alone, folder = convert(parsed, tmp_path, source, "stage.split_dataset_ratio=0.4", "stage.split_by=image")
    drawn = sides(folder)
    straddling = [name for name in drawn if f"{name}-copy" in drawn and drawn[name] != drawn[f"{name}-copy"]]
    assert straddling, "without looking for copies, some are drawn onto different sides"
    assert "copies" not in alone.counts

    summary, folder = convert(parsed, tmp_path, source, "stage.split_dataset_ratio=0.4")
    found = sides(folder)
    assert len(found) == 32
    assert all(found[f"{k:02d}"] == found[f"{k:02d}-copy"] for k in range(0, 24, 3))
    assert all(found[f"{k:02d}"] == drawn[f"{k:02d}"] for k in range(24) if k % 3), "the others stay where they were"
    assert summary.counts["copies"] == COPIED
    assert len(list(read_rows(folder / "copies.jsonl"))) == COPIED
    assert len(summary.copies) == COPIED
    assert "Images that show the same, side by side" in (tmp_path / "run/report.html").read_text(encoding="utf-8")


def test_a_second_conversion_decodes_no_image(parsed: Callable[..., Run], tmp_path: Path) -> None:
    source = rows(tmp_path / "photos")
    _, folder = convert(parsed, tmp_path, source, "stage.split_dataset_ratio=0.4")
    before = sides(folder)
    kept = [path.stat().st_size for path in sorted((tmp_path / "outputs/cache/images").glob("*-1"))]
    _, folder = convert(parsed, tmp_path, source, "stage.split_dataset_ratio=0.4")
    assert sides(folder) == before
    assert [path.stat().st_size for path in sorted((tmp_path / "outputs/cache/images").glob("*-1"))] == kept


def test_training_rows_that_a_source_also_holds_out_are_rejected(parsed: Callable[..., Run], tmp_path: Path) -> None:
    source = rows(tmp_path / "photos", lambda name: "test" if name.endswith("copy") else "train")
    summary, folder = convert(parsed, tmp_path, source)
    assert summary.metrics["rejected"] == {"leaked": COPIED}
    detail = next(read_rows(folder / "rejected.jsonl"))["detail"]
    assert detail == f"shows the same as {source.parent / '00-copy.png'}, which is held out"
    assert sum(side == "test" for side in sides(folder).values()) == COPIED
    kept, folder = convert(parsed, tmp_path, source, "stage.rules.leaked=false")
    assert kept.counts["rejected"] == 0


@pytest.mark.parametrize(
    ("group", "moved", "leaked"),
    [
        ([(5, VAL), (9, TRAIN)], {9: "val"}, []),
        ([(5, TRAIN), (9, VAL), (12, VAL)], {9: "train", 12: "train"}, []),
        ([(5, VAL), (9, GIVEN_TRAIN)], {5: "train"}, []),
        ([(5, GIVEN_TRAIN), (9, GIVEN_HELD_OUT), (12, TRAIN)], {}, [5, 12]),
        ([(5, TRAIN), (9, TRAIN)], {}, []),
    ],
)
def test_a_group_of_copies_has_one_side(group: list[tuple[int, int]], moved: dict[int, str], leaked: list[int]) -> None:
    sides: dict[int, str] = {}
    gone: dict[int, str] = {}
    _decide([Member(identity, side, f"{identity}.png") for identity, side in group], sides, gone)
    assert (sides, sorted(gone)) == (moved, leaked)
