"""What a job of a sweep needs on a machine, and that no two jobs get the same ports there."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Callable

import hydra
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from tests.conftest import ROOT
from vd100k.config.run import Run
from vd100k.sweeping import job, ports

T4 = ["hardware=t4x4", "model=qwen2-vl-2b", "images=p"]
JUDGED = ["stage=evaluate", "stage.images=h", "stage.labels=l.jsonl"]


@pytest.mark.parametrize(
    ("overrides", "gpus"),
    [
        ([*T4, "stage=generate"], 4),
        ([*T4, "stage=generate", "hardware.replicas=2", "hardware.gpus_per_replica=2"], 4),
        ([*T4, "stage=generate", "hardware.replicas=1"], 1),
        ([*T4, *JUDGED], 4),
        ([*T4, "stage=finetune"], 1),
        ([*T4, "stage=finetune", "stage.cuda_devices='2,3'"], 2),
        ([*T4, "stage=convert", "answers=m"], 0),
        ([*T4, "stage=pipeline", "stage.steps=[generate,convert,finetune]", "hardware.replicas=1"], 1),
        (["stage=generate", "images=p", "hardware=api", "model=gpt-4o"], 0),
        (["stage=generate", "images=p"], 0),
        ([*T4, "stage=generate", "cluster=ray", "model.api_key_env=K"], 0),
    ],
)
def test_a_job_is_given_the_gpus_that_it_uses_at_one_time(
    parsed: Callable[..., Run], overrides: list[str], gpus: int
) -> None:
    assert job.gpus(parsed(*overrides)) == gpus


def test_a_training_counts_the_gpus_that_it_was_given_from_0(parsed: Callable[..., Run]) -> None:
    alone = parsed(*T4, "stage=finetune", "stage.cuda_devices='2,3'")
    assert list(job.devices(alone)) == ["stage.cuda_devices='0,1'"]
    steps = parsed(*T4, "stage=pipeline", "stage.steps=[finetune]", "stage.finetune.cuda_devices=3")
    assert list(job.devices(steps)) == ["stage.finetune.cuda_devices='0'"]


def test_every_server_of_a_job_has_ports_and_every_key_is_named(parsed: Callable[..., Run]) -> None:
    judge = ["verify=judge", "model@judge.model=gpt-4o", "hardware@judge.hardware=api"]
    teacher = ["model@teacher.model=qwen2-vl-7b", "hardware@teacher.hardware=single-gpu"]
    composed = hydra.compose("config", [*T4, "stage=pipeline", *teacher, *judge])  # where ``parsed`` has initialised it
    assert job.ports(composed) == {"hardware.port": 5, "teacher.hardware.port": 2}
    assert "OPENAI_API_KEY" in job.variables(OmegaConf.to_container(composed))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(1, 5), min_size=1), min_size=1, max_size=4))
def test_reserved_ports_overlap_nowhere(wanted: list[dict[str, int]]) -> None:
    with contextlib.ExitStack() as stack:
        taken = [
            first + k
            for counts in wanted
            for key, first in stack.enter_context(ports.reserved(counts)).items()
            for k in range(counts[key])
        ]
        assert len(set(taken)) == len(taken) == sum(sum(counts.values()) for counts in wanted)


def test_ports_of_other_processes_and_listening_ones_are_left_out() -> None:
    """A job reserves its ports before anything listens on them."""
    code = "from vd100k.sweeping import ports\nwith ports.reserved({'a': 2}) as p: print(p['a'], flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        first = int(other.stdout.readline())
        with ports.reserved({"a": 2}) as mine:
            assert abs(mine["a"] - first) >= 2
            with socket.socket() as listening:
                listening.bind(("", mine["a"]))
                listening.listen()
                with ports.reserved({"b": 1}) as third:
                    assert third["b"] not in (first, first + 1, mine["a"], mine["a"] + 1)
        other.communicate("\n")
