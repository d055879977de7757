"""The rules of ARCHITECTURE.md: imports run one way, help is quick, modules are short, JSONL has one reader."""

from __future__ import annotations

import ast
import graphlib
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "vd100k"
# What each package may import besides itself; a name that is missing here is a package that no rule knows.
MAY_IMPORT = {
    "errors": set(),
    "answers": set(),
    "console": {"errors"},
    "io": {"errors", "console"},
    "boxes": {"errors", "images", "config"},
    "stores": {"errors", "console", "io"},
    "images": {"errors", "console", "io", "stores"},
    "config": {"errors", "console", "io", "stores", "parallel"},
    "llm": {"errors", "console", "io", "images", "boxes", "config", "answers"},
    "models": {"errors", "console", "io", "config"},
    "engines": {"errors", "console", "io", "images", "config", "llm", "models", "parallel"},
    "cluster": {"errors", "console", "io", "config", "engines"},
    "registry": {"errors", "console", "io", "config", "engines", "parallel"},
    "ledger": {"stores", "errors", "console", "io", "images", "config"},
    "pages": {"stores", "errors", "console", "io", "images", "boxes"},
    "generation": {
        "stores",
        "errors",
        "console",
        "io",
        "images",
        "boxes",
        "config",
        "llm",
        "models",
        "engines",
        "cluster",
        "ledger",
        "pages",
    },
    "drivers": {"stores", "errors", "console", "io", "images", "config", "engines", "cluster", "ledger", "generation"},
    "similarity": {"stores", "errors", "console", "io", "images", "parallel"},
    "sources": {"stores", "errors", "console", "io", "images"},
    "parallel": set(),
    "conversion": {"stores", "errors", "console", "io", "images", "boxes", "config", "similarity", "sources", "answers"}
    | {"parallel"},
    "dataset": {"errors", "console", "io", "images", "config", "sources", "conversion"},
    "evaluation": {"errors", "console", "io", "images", "boxes", "config", "pages", "answers"},
    "labelling": {"errors", "console", "io", "images", "boxes", "config", "evaluation", "pages", "chat"},
    "web": {"errors", "config", "engines"},
    "training": {"errors", "console", "io"},
    "parity": {"errors", "console", "io", "images", "config", "llm", "engines", "pages", "training"},
    "verification": {"errors", "console", "io", "images", "boxes", "config", "llm", "pages"}
    | {"conversion", "evaluation", "labelling", "sources", "answers"},
    "runs": {
        "parallel",
        "stores",
        "errors",
        "console",
        "io",
        "images",
        "boxes",
        "config",
        "evaluation",
        "pages",
        "parity",
        "labelling",
        "similarity",
        "verification",
    },
    "sweeping": {"errors", "console", "config", "engines", "cluster", "comparing"},
    "preference": {"errors", "console", "io", "config", "evaluation", "generation", "verification"},
    "comparing": {"errors", "console", "io", "config", "evaluation", "runs"},
    "chat": {"errors", "console", "io", "images", "boxes", "config"},
    "tiny": set(),
    "help": set(),
    "command_line": {"errors", "config"},
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


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_no_module_is_longer_than_300_lines() -> None:
    assert not {path.name: n for path in modules() if (n := lines(path)) > 300}


def test_the_median_module_is_shorter_than_150_lines() -> None:
    assert statistics.median(lines(path) for path in modules()) < 150


def test_no_package_is_longer_than_1700_lines() -> None:
    packages = [path for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert not {path.name: n for path in packages if (n := sum(map(lines, path.rglob("*.py")))) > 1700}


def test_the_top_level_has_packages_and_four_modules() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == {"__init__", "launch", "help", "console", "errors"}
    found = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name not in ("__pycache__", "conf")}
    assert found == set(MAY_IMPORT) - {"launch", "help", "console", "errors"}
    assert all((PACKAGE / name / "__init__.py").exists() for name in found)


def test_the_rule_itself_has_no_cycle() -> None:
    graphlib.TopologicalSorter(MAY_IMPORT).prepare()


def test_stages_get_their_settings_typed() -> None:
    for path in modules():
        assert "isinstance(run.stage" not in path.read_text(encoding="utf-8"), path


COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def parses_lines(tree: ast.AST) -> bool:
    """Whether some loop, or comprehension, parses its own variable as JSON (and not a file that the variable names)."""
    for loop in ast.walk(tree):
        targets = [loop.target] if isinstance(loop, ast.For) else []
        targets += [one.target for one in loop.generators] if isinstance(loop, COMPREHENSIONS) else []
        names = {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
        for call in ast.walk(loop) if names else ():
            if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(".loads"):
                used = {node.id for node in ast.walk(call) if isinstance(node, ast.Name)}
                if used & names and "read_text" not in ast.unparse(call):
                    return True
    return False


def test_jsonl_has_one_reader() -> None:
    assert parses_lines(ast.parse("for line in file:\n    rows.append(json.loads(line))"))
    assert parses_lines(ast.parse("rows = [orjson.loads(line) for line in file]"))
    assert [path.name for path in modules() if parses_lines(ast.parse(path.read_text(encoding="utf-8")))] == []


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


def test_what_every_run_imports_for_its_last_lines_is_light() -> None:
    code = "import json, sys; import vd100k.runs.closing; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not (HEAVY - {"pydantic"}) & set(json.loads(done.stdout))
