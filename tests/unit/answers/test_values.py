"""Values that say the same, though they are written in another way."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vd100k.answers.values import as_number, readings, same


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (12, "12.0"),
        ("1,250.50", 1250.5),
        ("1,250.50", "1250.5"),
        ("2024-03-01", "March 1, 2024"),
        ("2024-03-01", "1 Mar 2024"),
        ("2024年3月1日", "01.03.2024"),
        ("3/4/2024", "03/04/2024"),
        ("13/4/2024", "2024-04-13"),
        ("2024-03-01T10:00", "1 Mar 2024 10:00"),
        ("Foo  Bar", "foo bar."),
        ("ＡＢＣ", "abc"),
        (None, None),
        ([1, 2], [1, 2]),
    ],
)
def test_these_say_the_same(one: object, other: object) -> None:
    assert same(one, other)
    assert same(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("007", "7"),
        (True, 1),
        ("true", True),
        ("3/4/2024", "2024-03-04"),  # or a day in April
        ("2024-03-01", "2024-03-02"),
        ("2024-03-01", "2024-03-01 10:00"),
        ("Main Street 2024", "main street 2025"),
        ("1,25", "125"),
        (None, ""),
        ("12", "12 kg"),
    ],
)
def test_these_do_not(one: object, other: object) -> None:
    assert not same(one, other)
    assert not same(other, one)


def test_numbers_may_differ_by_the_tolerance() -> None:
    assert same(100, "101", tolerance=0.02)
    assert not same(100, "101", tolerance=0.005)


@given(st.dates(min_value=datetime.date(1000, 1, 1)))
def test_a_day_is_the_same_however_it_is_written(day: datetime.date) -> None:
    month = f"{day:%B} {day.day}, {day.year}"
    written = [day.isoformat(), f"{day.day}.{day.month}.{day.year}", month]
    written += [f"{day.year}年{day.month}月{day.day}日", f"{day.year}/{day.month:02}/{day.day:02}"]
    assert all(same(one, other) for one in written for other in written)
    other = day + datetime.timedelta(days=1 if day < datetime.date.max else -1)
    assert not any(same(one, other.isoformat()) for one in written)


@given(
    st.text()
    | st.from_regex(r"\d{1,4}[-/. ]\d{1,4}[-/. ]\d{1,6}([T ]\d{1,3}(:\d{1,3}){0,3}[A-Z+]{0,3})?", fullmatch=True)
)
def test_any_text_is_read_without_an_error(text: str) -> None:
    assert len(readings(text)) <= 2
    number = as_number(text)
    assert number is None or same(text, number)
    assert same(text, text)
