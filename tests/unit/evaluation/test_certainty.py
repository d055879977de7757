"""The certainty of an evaluation's figures, in numbers and in words."""

from __future__ import annotations

import json

from vd100k.evaluation.certainty import certainty, remembered, told, verdict
from vd100k.evaluation.metrics import ALWAYS, Scores


def scores(*values: float) -> Scores:
    return dict(zip(ALWAYS, values, strict=True))


def test_every_figure_has_an_interval_and_a_change() -> None:
    before = [scores(0, 0, 0)] * 55 + [scores(1, 1, 1)] * 5
    after = [scores(1, 1, 1)] * 50 + [scores(0, 1, 0.5)] * 10
    found = certainty({"before": before, "after": after})
    assert found["images"] == 60
    assert list(found["intervals"]) == ["before", "after"]
    low, high = found["intervals"]["after"]["exact_match"]
    assert low < 50 / 60 < high
    change = found["changes"]["exact_match"]
    assert (change["better"], change["worse"], change["verdict"]) == (50, 5, "better")
    assert told(change).startswith("+75 points (")
    assert told(change).endswith("50 better, 5 worse")
    assert verdict(change) == "better"
    assert found["changes"]["field_accuracy"]["verdict"] == "better"
    assert json.loads(json.dumps(found)) == found


def test_one_side_has_no_change_and_no_images_have_no_certainty() -> None:
    assert not certainty({"before": [scores(1, 1, 1)] * 3})["changes"]
    nothing = {name: [0, 1] for name in ALWAYS}
    assert certainty({"before": []}) == {"images": 0, "intervals": {"before": nothing}, "changes": {}}
    assert certainty({"before": [], "after": []})["changes"] == {}


def test_a_change_within_chance_says_how_many_images_would_show_one() -> None:
    before, after = [scores(0, 1, 0)] * 30, [scores(1, 1, 1)] * 3 + [scores(0, 1, 0)] * 27
    change = certainty({"before": before, "after": after})["changes"]["exact_match"]
    assert verdict(change).startswith("no difference shown; ")
    assert verdict(change).endswith(" images would show one of this size")
    same = certainty({"before": before, "after": before})["changes"]["exact_match"]
    assert verdict(same) == "no difference shown"


def test_a_change_on_another_task_is_forgetting_or_none() -> None:
    right, wrong = scores(1, 1, 1), scores(0, 1, 0)
    lost = certainty({"before": [right] * 40, "after": [right] * 20 + [wrong] * 20})["changes"]["exact_match"]
    assert remembered(lost).startswith("forgot: -50 points (")
    same = certainty({"before": [right] * 40, "after": [right] * 40})["changes"]["exact_match"]
    assert remembered(same).startswith("no difference shown: +0 points (")
    gained = certainty({"before": [wrong] * 40, "after": [right] * 40})["changes"]["exact_match"]
    assert remembered(gained).startswith("improved: +100 points (")
