"""The sample of rows: the extreme ones first, and the same for the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vd100k.parity.sample import choose, facts, image_facts

CAP = 1000


def row(*images: str, turns: int = 1, system: str = "", text: str = "q") -> dict[str, Any]:
    messages = [{"role": "system", "content": system}] if system else []
    for _ in range(turns):
        messages += [{"role": "user", "content": text}, {"role": "assistant", "content": "a"}]
    return {"messages": messages, "images": list(images)}


def save(path: Path, width: int, height: int, mode: str = "RGB", orientation: int = 1) -> str:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new(mode, (width, height)).save(path, exif=exif)
    return str(path)


def test_the_extreme_rows_come_first(tmp_path: Path) -> None:
    usual = [row(save(tmp_path / f"{k}.png", 20, 20)) for k in range(30)]
    extreme = {
        "largest image": row(save(tmp_path / "large.png", 100, 100)),
        "smallest image": row(save(tmp_path / "small.png", 4, 4)),
        "most extreme shape": row(save(tmp_path / "long.png", 90, 3)),
        "turned by EXIF": row(save(tmp_path / "turned.jpg", 30, 20, orientation=6)),
        "turned by EXIF, square": row(save(tmp_path / "square.jpg", 20, 20, orientation=3)),
        "just over the cap": row(save(tmp_path / "over.png", 40, 26)),
        "grey": row(save(tmp_path / "grey.png", 20, 20, "L")),
        "several images": row(*usual[0]["images"], *usual[1]["images"]),
        "several turns": row(*usual[0]["images"], turns=3),
        "with boxes": {**row(*usual[0]["images"]), "objects": {"ref": ["x"], "bbox": [[1, 2, 3, 4]]}},
        "system prompt": row(*usual[0]["images"], system="Be brief."),
        "longest text": row(*usual[0]["images"], text="long" * 50),
        "no image": row(),
    }
    rows = [*usual, *extreme.values()]
    chosen = choose(rows, len(rows), len(extreme) + 1, CAP, seed=1)
    named = {trait: one.row for one in chosen for trait in one.traits}
    assert named == extreme
    assert len(chosen) == len(extreme) + 1, "one more was drawn"


def test_an_upright_size_is_that_of_the_turned_image(tmp_path: Path) -> None:
    found = image_facts(save(tmp_path / "a.jpg", 30, 20, orientation=6))
    assert found
    assert (found.width, found.height, found.orientation) == (20, 30, 6)
    assert image_facts(tmp_path / "missing.png") is None
    (tmp_path / "text.png").write_text("no image")
    assert image_facts(tmp_path / "text.png") is None


ROWS = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3), st.text(max_size=5)), max_size=40)


@given(ROWS, st.integers(1, 12), st.integers(0, 5))
def test_a_sample_has_distinct_rows_in_a_stable_choice(
    shapes: list[tuple[int, int, str]], count: int, seed: int
) -> None:
    rows = [row(*["missing.png"] * images, turns=turns, text=text) for turns, images, text in shapes]
    chosen = choose(rows, len(rows), count, CAP, seed)
    assert len({one.number for one in chosen}) == len(chosen) == min(count, len(rows))
    assert all(rows[one.number - 1] is one.row for one in chosen)
    assert chosen == choose(rows, len(rows), count, CAP, seed)


@given(
    st.dictionaries(st.text(max_size=8), st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5))
)
def test_any_row_has_facts(content: dict[str, Any]) -> None:
    names = ("messages", "images", "objects")
    facts(content | dict(zip(names, content.values(), strict=False)), CAP)
