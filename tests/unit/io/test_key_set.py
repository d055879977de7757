"""Sets of millions of keys behave like sets, and the index of offsets like a dictionary."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vd100k.io.key_set import KeySet, OffsetIndex, row_key

# The small numbers share their first bits.
numbers = st.integers(0, 2**64 - 1) | st.integers(0, 99)


@given(st.lists(numbers), st.lists(numbers))
def test_a_set_contains_the_added_keys_and_no_others(added: list[int], others: list[int]) -> None:
    keys = KeySet()
    expected: set[int] = set()
    for number in added:
        assert keys.add(number) == (number not in expected)
        expected.add(number)
    assert list(keys) == sorted(expected)
    assert len(keys) == len(expected)
    assert all((number in keys) == (number in expected) for number in others + added)


@given(st.sets(numbers), st.sets(numbers))
def test_a_set_without_the_keys_of_another(left: set[int], right: set[int]) -> None:
    some, others = KeySet(), KeySet()
    for number in left:
        some.add(number)
    for number in right:
        others.add(number)
    rest = some.without(others)
    assert list(rest) == sorted(left - right)
    assert len(rest) == len(left - right)


@given(st.dictionaries(numbers, st.integers(0, 2**63)), numbers)
def test_the_index_finds_the_offset_of_each_key(offsets: dict[int, int], other: int) -> None:
    index = OffsetIndex()
    for number, offset in offsets.items():
        index.add(number, offset)
    assert all(index.find(number) == offset for number, offset in offsets.items())
    assert index.find(other) == offsets.get(other)


def test_a_question_has_another_key_than_its_image() -> None:
    assert len({row_key("a"), row_key("a", ""), row_key("a", "b"), row_key("ab"), row_key("\udc80")}) == 5
