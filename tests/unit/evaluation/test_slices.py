"""The figures of slices and fields: which images are in them, and which are the worst."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vd100k.evaluation.slices import FEWEST, MOST, by_field, by_slice, columns, size_note, unknown, worst


def test_a_slice_is_a_value_of_a_column_of_a_field_or_a_range_of_sizes(tmp_path: Path) -> None:
    labels = {f"{k}": {"colour": "red" if k % 2 else "blue", "parts": [k]} for k in range(24)}
    paths = {}
    for k, id in enumerate(labels):
        paths[id] = str(tmp_path / f"{id}.png")
        Image.new("RGB", (100 + 10 * k, 500)).save(paths[id])
    known = {"weather": dict.fromkeys(labels, "rain")}
    values = columns(["weather", "colour", "parts.0", "image_size"], known, labels, paths)
    scores = {"before": dict.fromkeys(labels, 0.0), "after": {id: float(int(id) % 2) for id in labels}}
    found = by_slice(values, scores)
    assert [(one["name"], one["images"]) for one in found["weather"]] == [("rain", 24)]
    assert [(one["name"], one["figures"]["after"]) for one in found["colour"]] == [("blue", 0), ("red", 1)]
    assert found["colour"][1]["change"]["verdict"] == "better"
    assert len(found["parts.0"]) == len(found["image_size"]) == 4
    assert sum(one["images"] for one in found["image_size"]) == 24
    assert {one["name"] for one in found["image_size"]} >= {"100 to 157.5"}
    assert [(column, one["name"], clear) for column, one, clear in worst(found, 0.5)] == [("colour", "blue", True)]


def test_a_small_slice_says_so_and_is_not_named() -> None:
    values = {"kind": {str(k): "rare" if k < FEWEST - 1 else "usual" for k in range(40)}}
    scores = {"after": {str(k): float(k >= FEWEST - 1) for k in range(40)}}
    (found,) = by_slice(values, scores).values()
    assert [one["name"] for one in found] == ["usual", "rare"]
    assert size_note(found[1]) == "9 images: too few to say much"
    assert size_note(found[0]) == "31 images"
    assert worst({"kind": found}, 0.775) == []


@given(
    st.dictionaries(
        st.text(max_size=3), st.none() | st.integers() | st.text() | st.floats() | st.booleans(), min_size=1
    )
)
def test_every_image_is_in_one_slice(by_id: dict[str, object]) -> None:
    (found,) = by_slice({"c": by_id}, {"after": dict.fromkeys(by_id, 1.0)}).values()
    assert sum(one["images"] for one in found) == len(by_id)
    assert len(found) <= MOST
    assert len({one["name"] for one in found}) == len(found)


def test_a_field_is_right_if_its_value_says_the_same() -> None:
    labels = {
        "a": {"date": "2024-03-01", "total": 12, "rows": [{"n": 1}, {"n": 2}]},
        "b": {"date": "2024-03-02", "total": 13, "rows": [{"n": 3}]},
    }
    answers = {"after": {"a": '{"date": "1 March 2024", "total": "12.0", "rows": [{"n": 1}]}', "b": "nothing"}}
    found = by_field(labels, answers)
    shares = {one["name"]: (one["images"], one["figures"]["after"]) for one in found}
    assert shares == {"date": (2, 0.5), "total": (2, 0.5), "rows.*.n": (2, 0.25)}
    assert found[0]["name"] == "rows.*.n"
    assert by_field({"a": "a text"}, {"after": {}}) == []


def test_a_name_that_is_nowhere_is_reported() -> None:
    rows = [({"id": "a", "weather": "rain"}, {"colour": "red", "parts": [{"n": 1}]})]
    assert unknown(["weather", "colour", "parts", "parts.0.n", "image_size"], rows) == []
    (fault,) = unknown(["wether"], rows)
    assert fault.startswith("wether, and no label has a column or a field of that name: did you mean weather?")
    assert "choose from image_size, id, weather, " in unknown(["zzz"], rows)[0]


@pytest.mark.parametrize("value", ["x" * 500, {"a": 1}, [1, 2], ""])
def test_any_value_has_a_short_name(value: object) -> None:
    (found,) = by_slice({"c": {"a": value}}, {"after": {"a": 1.0}}).values()
    assert 0 < len(found[0]["name"]) <= 60
