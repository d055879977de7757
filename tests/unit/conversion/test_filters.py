"""The rules that reject rows, and the number of tokens of a row."""

from __future__ import annotations

import string
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vd100k.answers.texts import PUNCTUATION, normalize, normalized
from vd100k.config.stages import Rules
from vd100k.conversion.filters import RejectedRow, RowFilter
from vd100k.conversion.token_lengths import TokenLengths
from vd100k.images.resizing import SizeRule

ALL = Rules(**dict.fromkeys(Rules.model_fields, True))


def rejection_reason(
    answer: str, question: str = "What is it?", prompt: str = "Describe the picture in detail."
) -> str | None:
    row_filter = RowFilter(ALL, "text", prompt, TokenLengths(None, "", SizeRule(28, 3136, 1_000_000), 2048))
    try:
        row_filter.check({"question": question, "answer": answer}, [(100, 100)])
    except RejectedRow as error:
        return error.reason
    return None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("!" * 30, "repetition"),
        ("The sign says go go go go go go go go go go", "repetition"),
        ("一只猫一只猫一只猫一只猫一只猫一只猫一只猫一只猫一只猫", "repetition"),
        ("It reads 1111.", None),
        ("It costs 1000000000", None),
        ("the same " * 40 + "\n", "repetition"),
        ("Two dogs and two cats, two birds and two fish.", None),
        ('[{"cases": "4"}, {"cases": "4"}, {"cases": "4"}, {"cases": "4"}, {"cases": "4"}]', None),
        ("what is it", "echo"),
        ("Describe the picture in detail. It shows a cat.", "echo"),
        ("I'm sorry, but I can't assist with that.", "refusal"),
        ("I’m unable to view images.", "refusal"),
        ("抱歉，我无法查看图片。", "refusal"),
        ("作为一个AI，我看不到图片。", "refusal"),
        ("I cannot see any people; the street is empty. " + " ".join(f"House {k} is red." for k in range(40)), None),
        ("", "empty"),
        ("No.", None),
        ("3", None),
    ],
)
def test_an_unusable_answer_is_rejected_with_its_reason(answer: str, reason: str | None) -> None:
    assert rejection_reason(answer) == reason


@given(st.text(max_size=60))
def test_any_text_can_be_checked(text: str) -> None:
    rejection_reason(text, question=text or "q")


def test_case_spaces_width_and_punctuation_do_not_distinguish_questions() -> None:
    assert normalize("What  IS it?") == normalize("what is it") == normalize("Ｗhat is it？")
    assert normalize("What is it?") != normalize("What was it?")


def test_tokens_are_counted_only_if_the_size_of_the_row_does_not_decide(tmp_path: Path) -> None:
    token_lengths = TokenLengths(str(tmp_path), "", SizeRule(28, 3136, 100_352), 2048)
    assert token_lengths.excess([("q" * 100, "a" * 100)], [None]) is None
    assert token_lengths.uncounted == 0
    assert token_lengths.excess([("q", "字" * 2000)], [None]) is None
    assert token_lengths.uncounted == 1, "the tokens cannot be counted without the tokenizer"


@given(st.text() | st.text(string.printable + "\x1c\x1f\u3000ＷÉ"))
def test_the_quick_way_for_ascii_gives_the_same_as_that_for_all_texts(text: str) -> None:
    slowly = "".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(PUNCTUATION)
    assert normalize(text) == slowly
    assert normalized(text, text.encode()) == slowly.encode()
