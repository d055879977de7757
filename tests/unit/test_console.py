"""Progress output, tested in a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from vd100k.console import harmless, say, show

SHOWS = """
from vd100k.config.run import Price
from vd100k.generation.progress import Progress, ProgressLine

progress = Progress("images", Price(prompt=0.5, completion=2))
progress.saved, progress.skipped = 1234, 5
progress.usage.prompt_tokens, progress.usage.completion_tokens = 1_500_000, 250_000
progress.in_flight = [8, 7]
with ProgressLine("asking a-model-with-a-name", progress) as line:
    line.show(100_000)
"""


@pytest.mark.parametrize("columns", [80, 160])
def test_the_progress_line_shows_all_figures_at_any_window_width(columns: int) -> None:
    terminal, inner = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    child = subprocess.Popen([sys.executable, "-c", SHOWS], stdout=inner, stderr=inner, env=environment)
    os.close(inner)
    seen = b""
    while True:
        try:
            more = os.read(terminal, 4096)
        except OSError:  # the child has closed the terminal
            break
        if not more:
            break
        seen += more
    os.close(terminal)
    assert child.wait(10) == 0
    for part in ("1239/100000", "1.5M tokens in", "250k out", "$1.2500", "5 failed", "in flight 8+7"):
        assert part in seen.decode(), seen.decode()


@given(st.text())
def test_text_for_the_terminal_has_no_control_characters(text: str) -> None:
    shown = harmless(text)
    assert not {character for character in shown if unicodedata.category(character) in ("Cc", "Cs")} - {"\n", "\t"}
    assert not set(shown) & {"\r", "\x1b", "\x9b", "\u202e", "\u2066"}
    shown.encode()
    assert harmless(shown) == shown
    if text.isprintable() or text in ("\n", "\t"):
        assert shown == text, "other text is unchanged"


def test_names_and_answers_with_escape_sequences_are_shown_harmlessly(capsys: pytest.CaptureFixture[str]) -> None:
    say("caf\u00e9 \x1b[2J\x9b31m\x07 \u202egnp.exe")
    table = Table("name")
    table.add_row("\x1b]0;title\x07")
    show(table)
    shown = capsys.readouterr().out
    assert "caf\u00e9 \\x1b[2J\\x9b31m\\x07 \\u202egnp.exe" in shown
    assert "\\x1b]0;title\\x07" in shown
    assert "\x1b" not in shown
