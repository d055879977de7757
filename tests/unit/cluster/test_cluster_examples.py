"""``examples/cluster/``: files for Slurm and Kubernetes, which are read by what describes their formats."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.conftest import ROOT
from vd100k.config.run import Run

SBATCH = ROOT / "examples/cluster/slurm.sbatch"
RAYCLUSTER = ROOT / "examples/cluster/raycluster.yaml"
SCHEMA = json.loads((ROOT / "tests/unit/cluster/raycluster.schema.json").read_text(encoding="utf-8"))
# The long options in sbatch(1) of Slurm 22.05 that take a value, and those that need none.
WITH_VALUE = """
account acctg-freq array batch bb bbf begin chdir cluster-constraint clusters comment constraint container
core-spec cores-per-socket cpu-freq cpus-per-gpu cpus-per-task deadline delay-boot dependency distribution error
exclude export export-file extra-node-info gid gpu-bind gpu-freq gpus gpus-per-node gpus-per-socket
gpus-per-task gres gres-flags hint input job-name kill-on-invalid-dep licenses mail-type mail-user mcs-label mem
mem-bind mem-per-cpu mem-per-gpu mincpus network nice nodefile nodelist nodes ntasks ntasks-per-core
ntasks-per-gpu ntasks-per-node ntasks-per-socket open-mode output partition power prefer priority profile
propagate qos reservation signal sockets-per-node switches thread-spec threads-per-core time time-min tmp uid
wait-all-nodes wckey wrap
"""
SWITCHES = """
contiguous exclusive get-user-env help hold ignore-pbs no-kill no-requeue overcommit oversubscribe parsable
quiet reboot requeue spread-job test-only usage use-min-nodes verbose version wait
"""


def unread(text: str) -> list[str]:
    """The options of a batch script that sbatch would not read: unknown ones, and those without their value."""
    given = re.findall(r"^#SBATCH +--([a-z-]+)(=\S+)?.*$", text, re.MULTILINE)
    return [name for name, value in given if name not in (WITH_VALUE if value else SWITCHES).split()]


def test_bash_and_sbatch_can_read_the_batch_script() -> None:
    text = SBATCH.read_text(encoding="utf-8")
    assert subprocess.run(["bash", "-n", SBATCH], check=False).returncode == 0
    lines = text.splitlines()
    first = next(k for k, line in enumerate(lines) if line and not line.startswith("#"))
    assert max(k for k, line in enumerate(lines) if line.startswith("#SBATCH")) < first, "sbatch stops reading there"
    assert text.count("\n#SBATCH --") == text.count("\n#SBATCH") > 5
    assert unread(text) == []
    assert unread("#SBATCH --nodes\n#SBATCH --exklusive\n#SBATCH --time=1\n") == ["nodes", "exklusive"]


def overrides(command: str) -> list[str]:
    """The overrides of ``python run.py …`` with examples for what a shell would put in."""
    values = {"$IMAGES": "photos", "$SLURM_JOB_NUM_NODES": "4"}
    for name, value in values.items():
        command = command.replace(name, value)
    words = shlex.split(command.replace("\\\n#", ""))
    return words[words.index("run.py") + 1 :]


def test_the_commands_of_both_are_runs_on_four_machines(parsed: Callable[..., Run]) -> None:
    [in_script] = re.findall(r"^COMMAND=\((.*?)\)$", SBATCH.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    [in_manifest] = re.findall(r" -- (python run\.py .*?)\n#\n", RAYCLUSTER.read_text(encoding="utf-8"), re.DOTALL)
    for command in (in_script, in_manifest):
        run = parsed(*overrides(command))
        assert (run.stage.name, run.cluster.name, run.cluster.nodes) == ("generate", "ray", 4)
        assert run.model.api_key_env == "FLEET_KEY"


def ray_options(command: str) -> set[str]:
    """The options of a command of Ray's, without their dashes."""
    ray = Path(sys.executable).with_name("ray")
    shown = subprocess.run([ray, command, "--help"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"^  --([a-z-]+)", shown, re.MULTILINE))


def test_ray_has_the_options_that_both_give_it() -> None:
    [start] = re.findall(r"^srun .*?ray symmetric-run (.*?) -- ", SBATCH.read_text(encoding="utf-8"), re.M | re.DOTALL)
    given, known = set(re.findall(r"--([a-z-]+)", start)), ray_options("start")
    assert {"address", "min-nodes"} <= given & ray_options("symmetric-run")
    assert given - {"min-nodes"} <= known
    groups = [manifest()["spec"]["headGroupSpec"], *manifest()["spec"]["workerGroupSpecs"]]
    assert {name for group in groups for name in group["rayStartParams"]} <= known


def manifest() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(RAYCLUSTER.read_text(encoding="utf-8"))
    return read


def test_the_manifest_fits_the_schema_of_its_resource() -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(manifest())
    spec = manifest()["spec"]
    assert spec["authOptions"]["mode"] == "token"
    [workers] = spec["workerGroupSpecs"]
    pods = [spec["headGroupSpec"]["template"]["spec"], workers["template"]["spec"]]
    for pod in pods:
        [container] = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert pods[1]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 4  # of hardware=t4x4


@pytest.mark.parametrize("change", [("workerGroupSpecs", {}), ("authOptions", {"mode": "key"}), ("headGroup", {})])
def test_the_schema_refuses_what_the_resource_does_not_have(change: tuple[str, Any]) -> None:
    wrong = manifest()
    wrong["spec"][change[0]] = change[1]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(wrong)
