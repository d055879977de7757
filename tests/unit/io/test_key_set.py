"""Sets of millions of keys behave as sets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vd100k.io.key_set import KeySet, OffsetIndex, row_key

# Many with the same first bits, too.
numbers = st.integers(0, 2**64 - 1) | st.integers(0, 99)


@given(st.lists(numbers), st.lists(numbers))
def test_what_was_added_is_in_it_and_nothing_else(added: list[int], others: list[int]) -> None:
    found = KeySet()
    seen: set[int] = set()
    for number in added:
        assert found.add(number) == (number not in seen)
        seen.add(number)
    assert list(found) == sorted(seen)
    assert len(found) == len(seen)
    assert all((number in found) == (number in seen) for number in others + added)


@given(st.dictionaries(numbers, st.integers(0, 2**63)), numbers)
def test_each_key_has_its_place(places: dict[int, int], other: int) -> None:
    found = OffsetIndex()
    for number, place in places.items():
        found.add(number, place)
    assert all(found.find(number) == place for number, place in places.items())
    assert found.find(other) == places.get(other)


def test_a_question_is_another_key_than_its_image() -> None:
    assert len({row_key("a"), row_key("a", ""), row_key("a", "b"), row_key("ab"), row_key("\udc80")}) == 5
