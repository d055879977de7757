"""Ray is an extra: without it, what needs it says the line to install, and nothing else imports it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import LIGHT, ROOT, command_line, draw_pictures

STAGES = sorted(path.stem for path in (ROOT / "conf/stage").glob("*.yaml"))


@pytest.fixture(scope="module")
def without_ray(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """An interpreter with every package of this one but Ray, and the environment variable that it needs."""
    found = importlib.util.find_spec("hydra")
    assert found
    assert found.origin
    packages = tmp_path_factory.mktemp("packages")
    for entry in Path(found.origin).parents[1].iterdir():
        if entry.name != "ray" and not entry.name.startswith("ray-") and entry.suffix != ".pth":
            (packages / entry.name).symlink_to(entry)
    # Without ``site``, an interpreter has no packages but those in PYTHONPATH.
    return ["env", f"PYTHONPATH={packages}:{ROOT}", sys.executable, "-S"]


@pytest.mark.parametrize(
    "overrides",
    [
        ["stage=serve", "cluster=ray", "cluster.auth=none"],
        ["stage=generate", "cluster=ray", "cluster.auth=none", "images=photos"],
        ["-m", "hydra/launcher=ray", "stage=render", "stage.train=2,3"],
    ],
    ids=["serve", "generate", "launcher"],
)
def test_what_needs_ray_says_how_it_is_installed(without_ray: list[str], tmp_path: Path, overrides: list[str]) -> None:
    done = subprocess.run(
        [*without_ray, *command_line(*LIGHT[:2], *overrides, LIGHT[2])[1:]],
        cwd=draw_pictures(tmp_path / "photos", 1).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert "Ray, which is not installed here: pip install -e '.[cluster]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.log"))


PLANS = """
import json, sys
import hydra
from vd100k import launch, stages
from vd100k.config.parse import parse
with hydra.initialize_config_dir(version_base="1.3", config_dir=sys.argv[1]):
    for stage in sys.argv[2:]:
        where = {"evaluate": "stage", "pipeline": "stage.evaluate"}.get(stage)
        given = [f"{where}.images=h", f"{where}.labels=l.jsonl"] if where else []
        given += ["images=p", "runs=[a,b]", f"stage={stage}", "model=tiny-student", "dry_run=true"]
        print(len(stages.plan(parse(hydra.compose("config", given)))), file=sys.stderr)
print(json.dumps([name for name in sys.modules if name.split(".")[0] == "ray"]))
"""


def test_no_plan_of_a_stage_imports_ray() -> None:
    command = [sys.executable, "-c", PLANS, str(ROOT / "conf"), *STAGES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.split()) >= len(STAGES) > 10
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("arguments", [["--help"], ["stage=serve", "model=tiny-student", "dry_run=true"]])
def test_no_command_on_one_machine_imports_ray(tmp_path: Path, arguments: list[str]) -> None:
    command = [sys.executable, "-X", "importtime", str(ROOT / "run.py"), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "vd100k.help" in imported
    assert not {name for name in imported if name.split(".")[0] == "ray"}
