"""The documents agree with each other, with the files that they link to, and with the configuration."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from vd100k.config.run import Run

DOCUMENTS = [
    *("README.md", "README.zh.md", "ARCHITECTURE.md", "CONTRIBUTING.md"),
    *sorted(str(path.relative_to(ROOT)) for folder in ("docs", "examples") for path in (ROOT / folder).glob("*.md")),
]
CODE_BLOCK = re.compile(r"^```.*?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMENT = re.compile(r"(^|\s+)#.*$")
LINK = re.compile(r"\]\(([^)\s]+)\)")
ELSEWHERE = re.compile(r"[a-z]+:|#")  # an URL, or a heading of the same document
PLACEHOLDER = re.compile(r"…|=[A-Z_]{3,}\b")  # images=FOLDER
RUN = "python run.py "
HYDRA_FLAGS = {"-m", "-sc"}  # they start other programs or several runs


def text(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def command_lines(document: str) -> list[str]:
    """The lines in the code blocks of a document, without comments."""
    lines = (COMMENT.sub("", line) for block in CODE_BLOCK.findall(text(document)) for line in block.splitlines())
    return [line for line in lines if line]


def runnable_commands() -> list[str]:
    """The commands of the README that can be composed as they are."""
    return [
        line
        for line in command_lines("README.md")
        if line.startswith(RUN) and not PLACEHOLDER.search(line) and not HYDRA_FLAGS & set(shlex.split(line))
    ]


def test_both_readmes_have_the_same_commands_in_the_same_order() -> None:
    english = command_lines("README.md")
    assert len(english) > 20
    assert command_lines("README.zh.md") == english


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_relative_link_points_to_an_existing_file(document: str) -> None:
    folder = (ROOT / document).parent
    links = LINK.findall(CODE_BLOCK.sub("", text(document)))
    targets = [Path(link.partition("#")[0]) for link in links if not ELSEWHERE.match(link)]
    assert [str(target) for target in targets if not (folder / target).exists()] == []


def test_the_readmes_link_to_each_other_and_to_the_same_files() -> None:
    english, chinese = (LINK.findall(text(name)) for name in ("README.md", "README.zh.md"))
    assert "README.zh.md" in english
    assert "README.md" in chinese
    assert sorted(set(english) - {"README.zh.md"}) == sorted(set(chinese) - {"README.md"})


def test_the_readme_has_commands_to_compose() -> None:
    assert len(runnable_commands()) > 10


@pytest.mark.parametrize("command", runnable_commands())
def test_every_command_of_the_readme_composes(parsed: Callable[..., Run], command: str) -> None:
    overrides = shlex.split(command.removeprefix(RUN))
    stage = next((override for override in overrides if override.startswith("stage=")), None)
    run = parsed(*overrides)
    assert stage in (None, f"stage={run.stage.name}")
