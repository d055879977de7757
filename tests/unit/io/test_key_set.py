"""Sets of millions of keys behave as sets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vd100k.io.key_set import Keys, Places, key

# Many with the same first bits, too.
numbers = st.integers(0, 2**64 - 1) | st.integers(0, 99)


@given(st.lists(numbers), st.lists(numbers))
def test_what_was_added_is_in_it_and_nothing_else(added: list[int], others: list[int]) -> None:
    found = Keys()
    seen: set[int] = set()
    for number in added:
        assert found.add(number) == (number not in seen)
        seen.add(number)
    assert list(found) == sorted(seen)
    assert len(found) == len(seen)
    assert all((number in found) == (number in seen) for number in others + added)


@given(st.dictionaries(numbers, st.integers(0, 2**63)), numbers)
def test_each_key_has_its_place(places: dict[int, int], other: int) -> None:
    found = Places()
    for number, place in places.items():
        found.add(number, place)
    assert all(found.of(number) == place for number, place in places.items())
    assert found.of(other) == places.get(other)


def test_a_question_is_another_key_than_its_image() -> None:
    assert len({key("a"), key("a", ""), key("a", "b"), key("ab"), key("\udc80")}) == 5
