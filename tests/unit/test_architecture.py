"""The rules of ARCHITECTURE.md, checked: imports run one way, help is quick, files are short."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "vd100k"
# What each package may import besides itself; a name that is missing here is a package that no rule knows.
MAY_IMPORT = {
    "errors": set(),
    "console": {"errors"},
    "io": {"errors", "console"},
    "images": {"errors", "console", "io"},
    "config": {"errors", "console", "io"},
    "llm": {"errors", "console", "io", "images", "config"},
    "engines": {"errors", "console", "io", "images", "config", "llm"},
    "generation": {"errors", "console", "io", "images", "config", "llm", "engines"},
    "conversion": {"errors", "console", "io", "images", "config"},
    "evaluation": {"errors", "console", "io", "images", "config"},
    "runs": {"errors", "console", "io", "images", "config", "evaluation"},
    "chat": {"errors", "console", "io", "images", "config"},
    "tiny": set(),
    "help": set(),
}
MAY_IMPORT["stages"] = set(MAY_IMPORT) - {"help"}
MAY_IMPORT["launch"] = set(MAY_IMPORT)
HEAVY = {"torch", "vllm", "swift", "transformers", "peft", "wandb", "openai", "matplotlib", "numpy", "pydantic"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Names of our own modules that a file imports, relative to the package."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vd100k":
            inner = (node.module or "").partition(".")[2]
            names |= {inner} if inner else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {a.name.partition(".")[2] for a in node.names if a.name.startswith("vd100k.")}
    return names - {""}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts[0] == "__init__":
        return
    for other in imported(path):
        package = other.split(".")[0]
        if package == parts[0]:
            assert package != "stages" or parts[1] == "pipeline", "stages never import each other"
        else:
            assert package in MAY_IMPORT[parts[0]], f"{'/'.join(parts)} reaches up to {other}"
            assert package != "tiny" or parts == ("stages", "render"), "only render draws pictures"


def test_no_machine_is_named_in_code() -> None:
    names = [path.stem for path in (ROOT / "conf" / "hardware").glob("*.yaml")]
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare):
                constants = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
                assert not set(names) & set(constants), f"{path}:{node.lineno}"


def test_files_are_short() -> None:
    long = {path.name: n for path in modules() if (n := len(path.read_text(encoding="utf-8").splitlines())) > 300}
    assert not long


def test_help_is_quick_and_light() -> None:
    code = (
        "import sys, json, runpy, contextlib, io\n"
        f"sys.argv = ['run.py', '--help']; sys.path.insert(0, {str(ROOT)!r})\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        f"    runpy.run_path({str(ROOT / 'run.py')!r}, run_name='__main__')\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(json.loads(done.stdout))


def test_help_names_every_option_with_its_purpose() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "run.py"), "--help"], capture_output=True, text=True, check=True)
    for path in (ROOT / "conf").glob("*/*.yaml"):
        if path.parent.name not in ("fit", "base"):
            assert re.search(rf"^  {re.escape(path.stem)} +\S.+", done.stdout, re.MULTILINE), path
