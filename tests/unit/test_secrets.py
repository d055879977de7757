"""No secret of a run is in any file that it leaves, or on the terminal: servers may repeat whatever they are sent."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chat_server import ChatServer, Reply, chat_server
from tests.conftest import command_line, draw_pictures

SECRETS = {
    "the password of a login in a URL": "pw-Zebra-1417",
    "a key in the query of a URL": "query-Zebra-2271",
    "the key that model.api_key_env names": "plainwordZebra3390",
    "a key in a sampling option": "sampled-Zebra-4",
    "a password in a sampling option": "zebra5word",
    "a password in the environment of the trainer": "hunter2-Zebra-6",
    "HF_TOKEN": "hf_ZebraZebraZebraZebra7",
    "AWS_SECRET_ACCESS_KEY": "wJalrZebra/K7MDENG+bPxRfiCYEXAMPLEKEY88",
    "WANDB_API_KEY": "f00dZebra99f00d99f00d99f00d99f00d99f00d9",
    "the password of the chat page": "ZebraPagePassphrase",
    "somebody else's bearer token": "eyJhbGciOiJI.Zebra.c2lnbmVk",
}
LOGIN, QUERY, KEY, SAMPLED, PASSWORD, TRAINER, HF, AWS, WANDB, PAGE, FOREIGN = SECRETS.values()
ENVIRONMENT = {"PAID_MODEL": KEY, "HF_TOKEN": HF, "AWS_SECRET_ACCESS_KEY": AWS, "PAGE_WORD": PAGE}
HIDDEN = {*SECRETS.values(), base64.b64encode(f"me:{LOGIN}".encode()).decode()}


def echo(server: list[ChatServer], leaks: list[str]) -> Callable[[int, dict[str, Any]], Reply]:
    """A script of a server whose errors repeat all that it got, and ``leaks`` without their names."""

    def script(number: int, body: dict[str, Any]) -> Reply:
        sent = {key: value for key, value in body.items() if key != "messages"}
        got = f"Authorization: {server[0].keys[number]} body {json.dumps(sent)}"
        leaked = f"Bearer {FOREIGN}, {', '.join(leaks)}"
        # The cut after 500 characters goes through the middle of a secret.
        replies: list[Reply] = [
            (400, {}, json.dumps({"error": {"message": f"{got} {leaked}"}})),
            (422, {}, f"{'x' * (500 - len(AWS) // 2)} {AWS} {got}"),
            (200, {}, f"not JSON: {got} {leaked}"),
            "an answer",
        ]
        return replies[number % len(replies)]

    return script


def run(folder: Path, *overrides: str) -> str:
    """The output of a command."""
    environment = {**os.environ, **ENVIRONMENT, "WANDB_API_KEY": WANDB, "WANDB_MODE": "offline"}
    done = subprocess.run(
        command_line(*overrides), cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


def found(folder: Path, shown: list[str]) -> list[tuple[str, str]]:
    """Every secret that is in a file, or in what was shown."""
    texts = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    texts |= {f"terminal {k}": text.encode() for k, text in enumerate(shown)}
    return [(name, secret) for name, text in texts.items() for secret in HIDDEN if secret.encode() in text]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    draw_pictures(tmp_path / "pictures", 8)
    return tmp_path


def test_no_secret_is_kept_or_shown_by_a_generation_and_its_report(place: Path) -> None:
    asks = ["stage=generate", "images=pictures", "hardware=api", "model.served_name=m", "stage.max_retries=0"]
    sampling = [f"+task.sampling.x_api_key={SAMPLED}", f"+task.sampling.password={PASSWORD}"]
    servers: list[ChatServer] = []
    leaks: list[str] = []
    shown = []
    with chat_server(echo(servers, leaks)) as server:
        servers.append(server)
        with_key = [f"hardware.urls=['{server.url}?api_key={QUERY}']", "+model.api_key_env=PAID_MODEL"]
        with_login = [f"hardware.urls=['{server.url.replace('http://', f'http://me:{LOGIN}@')}']"]
        for name, urls, sent in (("key", with_key, [QUERY, KEY]), ("login", with_login, [LOGIN])):
            leaks[:] = [*sent, SAMPLED, PASSWORD, HF, AWS, WANDB]
            for check in ("true", "false"):
                asked = [override.removeprefix("+") for override in urls]
                shown.append(run(place, *asks, *sampling, *asked, f"dataset={name}", f"stage.check={check}"))
            shown.append(run(place, "stage=report"))
        shown.append(run(place, *asks, *sampling, *asked, "dataset=few", "stage.check=false", "preview=3"))
        shown.append(run(place, *asks, *sampling, *asked, "dataset=few", "preview=3", "dry_run=true"))
        shown.append(run(place, *asks, *asked, "--cfg", "job"))
        shown.append(run(place, "-m", *asks, *asked, "stage.max_in_flight=0", "limit=1,2"))
        assert any(LOGIN in base64.b64decode((key or "").partition(" ")[2] + "==").decode() for key in server.keys[-3:])
    gone = [*asks, *sampling, f"hardware.urls=['http://me:{LOGIN}@127.0.0.1:9/v1?api_key={QUERY}']"]
    shown.append(run(place, *gone, "dataset=gone", "stage.endpoint_wait_s=0"))
    assert found(place, shown) == []
    failures = list(place.glob("outputs/data/*/*/*.failures.jsonl"))
    assert sum("(hidden)" in path.read_text() for path in failures) >= 2, "the errors of the server were not kept"


def test_no_secret_is_kept_or_shown_by_other_stages(place: Path) -> None:
    with socket.socket() as occupied:
        occupied.bind(("127.0.0.1", 0))
        occupied.listen()
        port = f"stage.port={occupied.getsockname()[1]}"
        shown = [
            run(place, "stage=finetune", "dataset=d", f"+stage.env.X={TRAINER}", f"+stage.env.HF_TOKEN={HF}"),
            run(place, "stage=finetune", "dataset=d", f"+stage.env.X={TRAINER}", "dry_run=true"),
            run(place, "-m", "stage=finetune", "dataset=d", f"+stage.env.X={TRAINER}", "seed=1,2"),
            run(
                place,
                "stage=render",
                "stage.train=1",
                "stage.heldout=1",
                "tracking=wandb",
                f"+hydra.job.env_set.X={TRAINER}",
            ),
            run(place, "stage=chat", port, "stage.password_env=PAGE_WORD", "stage.host=0.0.0.0"),
            run(place, "stage=generate", "images=x", f"model.api_key_env=[{SAMPLED}]", f"no.such_key={SAMPLED}"),
            run(
                place,
                "stage=generate",
                "images=x",
                f"hardware.urls=['ftp://me:{LOGIN}@h?token={QUERY}']",
                "hardware=api",
            ),
        ]
    assert found(place, shown) == []
    assert list(place.glob("outputs/sweeps/*/*/multirun.yaml"))


def test_everything_but_secrets_is_kept_so_that_a_run_can_be_repeated(place: Path) -> None:
    overrides = ["stage=finetune", "dataset=d", f"+stage.env.X={TRAINER}", "+stage.env.CUBLAS_WORKSPACE_CONFIG=':16:8'"]
    run(place, *overrides, "seed=7", "+stage.args.max_steps=3")
    kept = place / "outputs/latest/.hydra"
    assert {path.name for path in kept.iterdir()} == {"config.yaml", "hydra.yaml", "overrides.yaml"}
    given = yaml.safe_load((kept / "overrides.yaml").read_text())
    assert given[:2] == overrides[:2]
    assert given[2] == "+stage.env.X=(hidden)"
    assert given[3:] == [overrides[3], "seed=7", "+stage.args.max_steps=3", "model=tiny-student", "tracking=none"]
    config = yaml.safe_load((kept / "config.yaml").read_text())
    env = config["stage"]["env"]
    assert (env["X"], env["CUBLAS_WORKSPACE_CONFIG"]) == ("(hidden)", ":16:8")
    assert env["MAX_PIXELS"] == "${model.max_pixels}"
    assert config["stage"]["args"]["max_steps"] == 3
    assert yaml.safe_load((kept / "hydra.yaml").read_text())["hydra"]["runtime"]["choices"]["stage"] == "finetune"
