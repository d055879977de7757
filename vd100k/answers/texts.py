"""Texts without the differences that do not matter, their words, and the letter that one names."""

from __future__ import annotations

import re
import unicodedata

PUNCTUATION = " \t\r\n.,;:!?…。，；：！？、\"'“”‘’()（）"
# B, b., (B), choiceB, option B: …, and after other words: "The answer is B", 答案：B.
LETTER = re.compile(
    r"^\W*(?:choice|option|选项|the answer is|answer|答案)?\W*([A-D])(?=\s*$|[.):：、，。])", re.IGNORECASE
)
PUNCTUATION_BYTES = bytes(ord(sign) for sign in PUNCTUATION if sign.isascii())
SPACES = bytes(number for number in range(128) if chr(number).isspace())
LOWER = bytes(range(256)).lower()
# A word, a number, or one character of a script without spaces.
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|\d+(?:[.,]\d+)*|[^\W\d_\u3040-\u30ff\u3400-\u9fff]+")


def normalize(text: str) -> str:
    """The text without differences that do not matter: case, spaces, full-width forms, punctuation at the ends."""
    return normalized(text, text.encode(errors="surrogatepass")).decode(errors="surrogatepass")


def normalized(text: str, encoded: bytes) -> bytes:
    """The same in UTF-8; ``encoded`` is the text itself in UTF-8."""
    if text.isascii():  # the same as below, in a third of the time
        return encoded.translate(LOWER, SPACES).strip(PUNCTUATION_BYTES)
    kept = "".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(PUNCTUATION)
    return kept.encode(errors="surrogatepass")


def words(text: str) -> list[str]:
    """The words and numbers of a text without case; of Chinese and Japanese, the characters."""
    return WORD.findall(text.casefold())


def letter(answer: str) -> str | None:
    """The letter that a multiple-choice answer such as "B. a cat" names; None if it names none."""
    found = LETTER.match(answer)
    return found[1].upper() if found else None
