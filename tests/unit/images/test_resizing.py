"""The size rule is the one of transformers and of ms-swift, and what is sent is resized as the original would be."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from vd100k.images.resizing import SizeRule

sides = st.integers(1, 12_000)
FAMILIES = [(28, 3136), (32, 65_536)]  # Qwen2-VL and Qwen2.5-VL, Qwen3-VL
rules = st.sampled_from(FAMILIES).flatmap(
    lambda facts: st.builds(SizeRule, st.just(facts[0]), st.just(facts[1]), st.integers(facts[1], 4_000_000))
)
narrow_bounds = st.builds(lambda tokens: SizeRule(28, tokens * 784, tokens * 784), st.integers(4, 64))


@given(sides, sides, rules | narrow_bounds)
def test_the_rule_is_that_of_transformers(width: int, height: int, rule: SizeRule) -> None:
    assume(max(width, height) <= 200 * min(width, height))
    rows, columns = smart_resize(height, width, rule.token_side, rule.min_pixels, rule.max_pixels)
    assert rule.resized(width, height) == (columns, rows)
    assert rule.tokens(width, height) == rows * columns // rule.token_side**2


@given(sides, sides, rules | narrow_bounds)
def test_the_rule_is_that_of_qwen_vl_utils_unless_a_side_is_shorter_than_a_token(
    width: int, height: int, rule: SizeRule
) -> None:
    from qwen_vl_utils.vision_process import smart_resize as trained_with

    assume(max(width, height) <= 200 * min(width, height) and not rule.is_too_narrow(width, height))
    rows, columns = trained_with(height, width, rule.token_side, rule.min_pixels, rule.max_pixels)
    assert rule.resized(width, height) == (columns, rows)


@given(sides, sides, rules | narrow_bounds)
def test_a_server_resizes_what_is_sent_as_it_would_resize_the_original(width: int, height: int, rule: SizeRule) -> None:
    assert rule.resized(*rule.sent(width, height)) == rule.resized(width, height)


@given(sides, sides, rules)
def test_an_image_over_the_cap_is_sent_within_it(width: int, height: int, rule: SizeRule) -> None:
    across, down = rule.sent(width, height)
    # A strip thinner than one token is widened to one, so only such an image may exceed the cap.
    assert across * down <= rule.max_pixels or rule.token_side in (across, down) or (across, down) == (width, height)
    if not rule.is_too_narrow(width, height):
        assert rule.tokens(width, height) <= max(rule.most_tokens, rule.min_pixels // rule.token_side**2 * 2)


@pytest.mark.parametrize(("size", "narrow"), [((112, 112), False), ((2000, 100), True), ((20, 20), True)])
def test_an_image_is_too_narrow_if_reducing_it_leaves_less_than_a_token(size: tuple[int, int], narrow: bool) -> None:
    assert SizeRule(28, 12_544, 12_544).is_too_narrow(*size) == narrow
