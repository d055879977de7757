"""Every configuration key that a message, a comment or a document names exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
import pytest
from omegaconf import OmegaConf

from tests.conftest import ROOT
from tests.unit.test_documents import CODE_BLOCK, DOCUMENTS
from vd100k.config.run import Run

# A key with a value. What stands before it is no part of a word, a path, an option of a program or a URL.
ASSIGNED = re.compile(r"(?<![\w.@/$?&{<-])([a-z_]+(?:@[a-z_]+(?:\.[a-z_]+)*)?(?:\.[A-Za-z_]+)*)=(?![=~])")
DOTTED = re.compile(r"(?<![\w./@$\"{-])((?:stage|hardware|model|task|paths|sweep)(?:\.[a-z_]+)+)(?![\w(/=-]|\.\w)")
GROUPS = {path.name for path in (ROOT / "conf").iterdir() if path.is_dir()} - {"base"}
MOUNTED = {"model@teacher.model", "hardware@teacher.hardware", "engine@hardware.engine"}
MOUNTED |= {"model@judge.model", "hardware@judge.hardware"}
# The keys below these are options of other programs, names that the user chooses, or Hydra's own.
FREE = re.compile(r"hydra|.*\.(args|adapter_args|env|inherits|resources|sampling|schema|models|texts)|served_names")
# The configuration key of a stage is known only to the run: stage in a run of its own, stage.STEP in a pipeline.
STAGE_KEYS = {"run.key", "self.stage_key", "stage_key", "self._stage_key", "self._run.key"}
# In a document, the stage that a recipe adds; elsewhere, names that are no keys: a column of ps, an argument of Python.
RECIPE = {"stage.at_least"}
NO_KEYS = {"pid", "ppid", "stat", "name", "colour", "install"}
FILES = (".csv", ".json", ".safetensors", ".weight")
BARE = re.compile(r"\(([a-z]+(?:_[a-z]+)+)\)")  # a key in parentheses, without its prefix
PLACEHOLDERS = {"KEY", "NAME", "STEP", "OPTION"}
HOLE = "\0"  # another value in a message


def flat(node: Any, prefix: str = "") -> Iterator[str]:
    """The dotted keys of a configuration."""
    for key, value in node.items() if isinstance(node, dict) else ():
        yield f"{prefix}{key}"
        yield from flat(value, f"{prefix}{key}.")


@pytest.fixture(scope="module")
def known(parsed: Callable[..., Run]) -> set[str]:
    """All keys of all stages, machines, models, engines, tasks, formats and trackers."""
    keys = GROUPS | MOUNTED
    for group in sorted(GROUPS - {"experiment", "fit"}):
        for option in sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml")):
            choice = f"engine@hardware.engine={option}" if group == "engine" else f"{group}={option}"
            composed = hydra.compose("config", [choice])  # where ``parsed`` has initialised Hydra
            keys |= set(flat(OmegaConf.to_container(composed, resolve=False)))
    return keys


def exists(key: str, known: set[str]) -> bool:
    if key in NO_KEYS | RECIPE or key.endswith(FILES):
        return True
    parents = [key.rpartition(".")[0]]
    while parents[-1]:
        parents.append(parents[-1].rpartition(".")[0])
    if key.rpartition(".")[2] in PLACEHOLDERS and (parents[0] in known or "STEP" in parents[0]):
        return True
    return key in known or any(FREE.fullmatch(parent) for parent in parents if parent)


def literals(path: Path) -> Iterator[tuple[int, str]]:
    """The texts in a Python file, with their line; the key of the run's stage is ``stage`` in them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.lineno, node.value
        elif isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(map(_text, node.values))


def _text(part: ast.expr) -> str:
    if isinstance(part, ast.FormattedValue):
        return "stage" if ast.unparse(part.value) in STAGE_KEYS else HOLE
    return str(part.value) if isinstance(part, ast.Constant) else HOLE


def comments(path: Path) -> Iterator[tuple[int, str]]:
    """The comments of a YAML file, with their line."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if found := re.search(r"(?:^|\s)#(.*)", line):
            yield number, found[1]


def named(text: str) -> list[str]:
    """The keys that a text names."""
    return [*ASSIGNED.findall(text), *DOTTED.findall(text)]


def wrong(texts: Iterator[tuple[int, str]], known: set[str], where: str) -> list[str]:
    """The keys in texts that do not exist, and those in parentheses that lack their prefix."""
    last = {key.rpartition(".")[2] for key in known if "." in key} - known
    return [
        f"{where}:{line}: {key}"
        for line, text in texts
        for key in [*(k for k in named(text) if not exists(k, known)), *(k for k in BARE.findall(text) if k in last)]
    ]


def test_messages_name_keys_that_exist(known: set[str]) -> None:
    found = []
    for path in sorted((ROOT / "vd100k").rglob("*.py")):
        name = str(path.relative_to(ROOT))
        found += wrong(literals(path), known, name)
    assert found == []


def test_comments_of_the_configuration_name_keys_that_exist(known: set[str]) -> None:
    files = sorted((ROOT / "conf").rglob("*.yaml"))
    assert [one for path in files for one in wrong(comments(path), known, str(path.relative_to(ROOT)))] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_name_keys_that_exist(known: set[str], document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    code = [*CODE_BLOCK.findall(text), *re.findall(r"`([^`\n]+)`", CODE_BLOCK.sub("", text))]
    assert wrong(iter(enumerate(code)), known, document) == []


# Modules whose stage is always the whole run, or that compose and look up configurations. All others may belong to a
# step of a pipeline, where the keys begin with stage.STEP.
ALONE = {
    "help.py",
    "chat.py",
    "label.py",
    "address.py",
    "page.py",
    "serve.py",
    "servers.py",
    "checks.py",
    "reference.py",
}
ALONE |= {"sweep_job.py", "parse.py", "launch.py", "closing.py", "verify_checks.py"}


def test_steps_name_their_keys_as_they_are_in_the_run() -> None:
    """A message of a step takes the first part of its keys from ``run.key``."""
    found = []
    for path in sorted((ROOT / "vd100k").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree) if path.name not in ALONE else ():
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                found += [f"{path.name}:{node.lineno}: {key}" for key in re.findall(r"\bstage\.[a-z_.]+", node.value)]
    assert found == []


def test_the_test_itself_finds_wrong_keys(known: set[str]) -> None:
    """Also within f-strings, and without mistaking the options of other programs for keys."""
    text = "set check=false or stage.check=false, stage.generate.check=false, stage.args.nothing=1, --flag=1, limt=3"
    assert wrong(iter([(1, text)]), known, "m") == ["m:1: check", "m:1: limt"]
    assert wrong(iter([(1, "waiting (endpoint_wait_s), stage.max_inflight")]), known, "m") == [
        "m:1: stage.max_inflight",
        "m:1: endpoint_wait_s",
    ]
