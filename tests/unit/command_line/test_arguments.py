"""The command line before Hydra reads it: any text arrives as it was typed."""

from __future__ import annotations

import shlex
from collections.abc import Callable

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT
from vd100k.command_line.arguments import HYDRAS, prepared
from vd100k.config.quoting import as_typed
from vd100k.config.run import Run
from vd100k.errors import ConfigError

CONF = ROOT / "conf"
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@given(TEXTS.filter(lambda text: not HYDRAS.fullmatch(text)))
def test_any_text_arrives_as_it_was_typed(text: str) -> None:
    for key in ("images", "task.prompt", "stage.source", "teacher.model.path"):
        (argument,) = prepared([f"{key}={text}"], CONF)
        assert OverridesParser.create().parse_override(argument).value() == text


@pytest.mark.parametrize(
    "argument",
    [
        *("images='my photos'", 'images="a"', "images=null", "images=${output_dir}/images", "limit=3"),
        *(
            "hardware.urls=[http://127.0.0.1:8000/v1]",
            "model.price={prompt: 2.5, completion: 10}",
            "~stage.args.lora_rank",
        ),
        *("+stage.args.lora_rank=4", "hydra.launcher.n_jobs=2", "model=gpt-4o", "experiment@stage=demo/finetune"),
    ],
)
def test_what_is_written_for_hydra_stays_as_it_is(argument: str) -> None:
    assert prepared([argument], CONF) == [argument]


def test_values_of_a_sweep_are_not_one_text() -> None:
    assert prepared(["-m", "images=a,b", "seed=1,2"], CONF) == ["-m", "images=a,b", "seed=1,2"]
    assert prepared(["images=a,b"], CONF) == ["images='a,b'"]


@pytest.mark.parametrize("folder", ["旅行照片", "photos (2024)", "it's", "a=b", "a,b", "2024", "100%, #1 [new] {x}"])
def test_a_folder_of_any_name_is_composed(parsed: Callable[..., Run], folder: str) -> None:
    arguments = prepared(["stage=generate", f"images={folder}", "hardware=api", "model=gpt-4o"], CONF)
    run = parsed(*arguments)
    assert (run.images, run.dataset) == (folder, folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["imagess=x"], "imagess is not a key: did you mean images?"),
        (["stage=generate", "stage.max_inflight=3"], "did you mean stage.max_in_flight?"),
        (["max_in_flight=3"], "did you mean stage.max_in_flight?"),
        (["hardwar=cpu"], "did you mean hardware?"),
        (["stage=generate", "stage.method=dpo"], "stage.method is not a key of stage=generate, but of stage=finetune"),
        (["generate"], "write stage=generate"),
        (["--dry-run"], "write dry_run="),
        (["limit=1,2"], "add -m to run once for each"),
        (["~model"], "choose an option with model=OPTION"),
        (["hardware.urls=[http://x"], "'hardware.urls=[A,B]'"),
    ],
)
def test_a_wrong_argument_gets_its_remedy(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        prepared(arguments, CONF)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["${nothing}", "Costs ${price}?", "it's ${x}", r"${x}\d", 'a "b" ${c}'])
def test_the_form_that_a_message_suggests_takes_a_text_as_it_is(parsed: Callable[..., Run], text: str) -> None:
    (argument,) = shlex.split(as_typed("images", text))
    run = parsed(*prepared(["stage=generate", argument, "dataset=x", "hardware=api", "model=gpt-4o"], CONF))
    assert run.images == text


def test_a_folder_whose_name_looks_like_an_interpolation_names_its_data_set(parsed: Callable[..., Run]) -> None:
    (argument,) = shlex.split(as_typed("images", "${nothing}"))
    assert parsed(*prepared(["stage=generate", argument, "hardware=api", "model=gpt-4o"], CONF)).dataset == "${nothing}"
