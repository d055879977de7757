"""Composed and parsed configurations: valid combinations, and the message for each invalid one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from tests.conftest import ROOT
from vd100k.config.names import check_names
from vd100k.config.run import Run
from vd100k.engines import commands
from vd100k.errors import ConfigError

Parsed = Callable[..., Run]


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))


def required(stage: str) -> list[str]:
    """The overrides that a stage needs."""
    if stage == "evaluate":
        return ["images=photos", "stage.labels=labels.jsonl", "stage.images=photos"]
    if stage == "pipeline":
        return ["images=photos", "stage.evaluate.labels=labels.jsonl", "stage.evaluate.images=photos"]
    return ["runs=[one,two]"] if stage == "compare" else ["images=photos"]


def of_each_kind(turn: int) -> list[str]:
    """One model of each kind, another one each turn: those of a kind differ in their names and paths alone."""
    kinds: dict[tuple[object, ...], list[str]] = {}
    for name in options("model"):
        keys = OmegaConf.load(ROOT / f"conf/model/{name}.yaml")
        kind = tuple(keys.get(key) for key in ("model_type", "quantization", "max_pixels")), "api_base" in keys
        kinds.setdefault(kind, []).append(name)
    return [names[turn % len(names)] for names in kinds.values()]


def impossible(hardware: str, model: str, stage: str) -> bool:
    """Whether they do not fit: hosted models have no weights to load, quantized ones cannot be trained, and
    hardware=api cannot load any.
    """
    if stage in {"finetune", "pipeline"} and model.endswith(("-fp8", "-awq")):
        return True
    hosted = model in {"gpt-4o", "claude-3-5-sonnet", "qwen-vl-max"}
    if stage in {"render", "convert", "label", "report", "compare"}:
        return False
    if stage == "parity":  # with hardware=api it says that it cannot compare
        return hosted and hardware != "api"
    if stage in {"generate", "chat", "verify"}:
        return hosted != (hardware == "api")
    return hosted or hardware == "api"


@pytest.mark.slow
@pytest.mark.parametrize("hardware", options("hardware"))
@pytest.mark.parametrize("stage", options("stage"))
def test_every_combination_of_hardware_model_and_stage_parses_or_names_a_remedy(
    parsed: Parsed, hardware: str, stage: str
) -> None:
    for model in of_each_kind(options("hardware").index(hardware) + options("stage").index(stage)):
        overrides = [f"hardware={hardware}", f"model={model}", f"stage={stage}", *required(stage)]
        if model == "hf":
            overrides += ["model.path=ORG/NAME", "model.name=hf", "model.model_type=qwen3_vl"]
        if impossible(hardware, model, stage):
            with pytest.raises(ConfigError) as caught:
                parsed(*overrides)
            assert all("choose" in problem or "set" in problem for problem in caught.value.problems)
        else:
            run = parsed(*overrides)
            assert (run.stage.name, run.hardware.name, run.model.name) == (stage, hardware, model)


@pytest.mark.parametrize("model", options("model"))
def test_every_model_parses(parsed: Parsed, model: str) -> None:
    path = ["model.path=ORG/NAME", "model.model_type=qwen3_vl"] if model == "hf" else []
    assert parsed("stage=convert", "images=photos", f"model={model}", *path).model.token_side in (28, 32)


@pytest.mark.parametrize("group", ["task", "format", "tracking", "engine"])
def test_every_other_option_parses(parsed: Parsed, group: str) -> None:
    for option in options(group):
        choice = f"engine@hardware.engine={option}" if group == "engine" else f"{group}={option}"
        parsed(choice, "stage=generate", "images=photos", "asker=m")


@pytest.mark.parametrize("name", options("experiment"))
def test_every_experiment_parses(parsed: Parsed, name: str) -> None:
    needs = ["stage.evaluate.labels=l.jsonl", "stage.evaluate.images=photos"] if name == "gpt-distill" else []
    run = parsed(f"experiment={name}", *([] if name in ("demo", "manifest-ocr") else ["images=photos"]), *needs)
    assert run.stage.name == ("convert" if name == "vd100k" else "pipeline")


@pytest.mark.parametrize("name", options("fit"))
def test_every_fit_file_changes_the_hardware_for_its_model_and_sets_no_stage(parsed: Parsed, name: str) -> None:
    hardware, model = name.split("_", 1)
    plain = parsed(f"hardware={hardware}", "model=qwen2-vl-2b", "stage=serve")
    fitted = parsed(f"hardware={hardware}", f"model={model}", "stage=serve")
    assert fitted.hardware != plain.hardware
    assert "stage" not in (ROOT / "conf" / "fit" / f"{name}.yaml").read_text(encoding="utf-8")


def test_all_problems_are_reported_at_once(parsed: Parsed) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed("stage=generate", "stage.max_in_flight=0", "limit=many", "+stage.max_in_flite=3", "model.max_pixels=-1")
    message = str(caught.value)
    for piece in ("stage.max_in_flight=0", "limit='many'", "did you mean max_in_flight?", "model.max_pixels=-1"):
        assert piece in message
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize(
    ("overrides", "remedy"),
    [
        (["stage=generate"], "set images=FOLDER"),
        (["stage=generate", "images=p", "model=gpt-4o"], "choose hardware=api"),
        (["stage=generate", "images=p", "hardware=api"], "hardware.urls=[http://HOST:PORT/v1]"),
        (["stage=generate", "images=p", "hardware=api", "hardware.urls=[]"], "is empty"),
        (["stage=finetune", "images=p", "model=gpt-4o"], "choose another, such as qwen2-vl-2b"),
        (["stage=serve", "hardware=api"], "choose another, such as single-gpu"),
        (["stage=evaluate", "images=p"], "stage.labels=FILE (their correct answers)"),
        (["stage=pipeline", "images=p", "format=sharegpt"], "choose format=swift"),
        (["stage=generate", "images=p", "stage.max_retries=???"], "stage.max_retries"),
        (["stage=generate", "images=${nowhere}"], "nowhere"),
        (["stage=evaluate", "dataset=${nowhere}"], "nowhere"),
        (["stage=pipeline", "images=p", "stage.steps=null"], "stage.steps=None"),
        (["stage=pipeline", "images=p", "stage.steps=[generate,generate]"], "a step twice"),
        (["stage=pipeline", "images=p", "stage.generate.max_in_flight=0"], "stage.generate.max_in_flight=0"),
        (["stage=generate", "images=p", "task=answer"], "set asker=MODEL, or task.questions=FILE"),
        (["stage=generate", "images=p", "task.language=fr"], "has texts in zh, en only"),
        (["stage=evaluate", "images=p", "task=answer", "asker=m"], "choose another task"),
        (["stage=finetune", "images=p", "stage.method=dpo"], "set rejected=MODEL"),
        (["stage=finetune", "images=p", "rejected=m"], "set stage.method=dpo"),
        (["stage=finetune", "images=p", "model.max_pixels=1000000"], "set model.max_pixels=999600"),
        (["stage=finetune", "images=p", "stage.args.max_pixels=3136"], "set model.max_pixels=3136"),
        (
            ["experiment=vd100k", "stage.products.0.answers=Unknown"],
            "which stage.models does not define",
        ),
        (["stage=chat", "model=gpt-4o"], "choose hardware=api"),
        (["stage=serve", "hardware.port=null"], "hardware.port is missing"),
        (["stage=serve", "hardware.replicas=0"], "hardware.replicas=0 starts no server"),
        (["stage=chat", "stage.host=0.0.0.0"], "set stage.password_env=VARIABLE"),
        (["stage=serve", "weights=merged"], "no data set is chosen"),
        (
            ["stage=generate", "images=p", "hardware=t4x4", "model=qwen2-vl-2b", "model@teacher.model=qwen2-vl-7b"],
            "stage=generate model=qwen2-vl-7b first and continue with answers=qwen2-vl-7b",
        ),
        (["experiment=demo", "model@teacher.model=gpt-4o"], "choose hardware@teacher.hardware=api"),
    ],
)
def test_every_problem_comes_with_its_remedy(parsed: Parsed, overrides: list[str], remedy: str) -> None:
    with pytest.raises(ConfigError, match="problem") as caught:
        parsed(*overrides)
    assert remedy in str(caught.value)


def test_generation_uses_the_model_and_hardware_of_the_teacher(parsed: Parsed) -> None:
    run = parsed("experiment=gpt-distill", "images=photos", "stage=generate")
    assert (run.model.name, run.hardware.name) == ("gpt-4o", "api")
    assert run.paths.rows == Path("outputs/data/photos/vqa/gpt-4o.jsonl")


def test_each_step_of_a_pipeline_reads_the_files_of_the_step_before(parsed: Parsed) -> None:
    parts = parsed("experiment=demo").parts
    steps = ["render", "generate", "convert", "parity", "finetune", "export", "parity_merged", "evaluate"]
    assert list(parts) == steps
    assert parts["generate"].model.name == "tiny-teacher"
    assert parts["convert"].stage.source == parts["generate"].paths.rows
    assert parts["finetune"].stage.args["dataset"] == f"{parts['convert'].stage.folder}/train.jsonl"
    assert parts["export"].stage.adapter == parts["finetune"].paths.adapter
    before, after = parts["evaluate"].parts["before"], parts["evaluate"].parts["after"]
    assert after.model_path == str(parts["export"].stage.folder)
    assert (before.served_name, after.served_name) == ("tiny-student", "tiny-student-tuned")


def test_preference_pairs_have_their_own_files_and_models(parsed: Parsed) -> None:
    pairs = ["dataset=d", "answers=a", "rejected=b"]
    convert = parsed("stage=convert", *pairs).stage
    finetune = parsed("stage=finetune", *pairs, "stage.method=dpo").stage
    assert convert.rejected == Path("outputs/data/d/details/b.jsonl")
    assert finetune.args["dataset"] == f"{convert.folder}/train.jsonl" == "outputs/data/d/details/a-b.swift/train.jsonl"
    assert finetune.folder != parsed("stage=finetune", "dataset=d", "answers=a").stage.folder


def test_every_language_of_a_task_has_its_own_prompt(parsed: Parsed) -> None:
    for task in options("task"):
        for language in parsed(f"task={task}", "stage=generate", "images=p", "asker=m").task.texts:
            run = parsed(f"task={task}", f"task.language={language}", "stage=generate", "images=p", "asker=m")
            assert run.task.prompt == run.task.texts[language]["prompt"]


def test_training_and_serving_use_the_same_pixel_cap(parsed: Parsed) -> None:
    serve = parsed("stage=serve", "hardware=single-gpu", "model=qwen2-vl-2b", "model.max_pixels=200704")
    train = parsed("stage=finetune", "dataset=d", "hardware=single-gpu", "model=qwen2-vl-2b", "model.max_pixels=200704")
    assert serve.hardware.engine.args["mm_processor_kwargs"]["max_pixels"] == 200704
    command = commands.train(train.stage, Path("out"))
    assert command.env["MAX_PIXELS"] == "200704"
    assert "--max_pixels" not in command.argv, "ms-swift would rescale images before it rounds their sides"
    assert serve.hardware.engine.args["mm_processor_kwargs"]["min_pixels"] == int(command.env["MIN_PIXELS"]) == 3136
    dpo = parsed("stage=finetune", "dataset=d", "model=qwen2-vl-2b", "rejected=m", "stage.method=dpo")
    assert commands.train(dpo.stage, Path("out")).env["MAX_PIXELS"] == "1003520"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300))
def test_a_name_that_is_accepted_stays_within_its_folder(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "names"
    if not list(check_names({"dataset": name})):
        path = folder / f"{name}.failures.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()  # the file system accepts it
        assert path.resolve().parent == folder.resolve()
        path.unlink()


@pytest.mark.parametrize("name", ["..", "../x", "a/b", ".hidden", "a\\b", "a\nb", "x" * 300])
@pytest.mark.parametrize("key", ["dataset", "task.name", "model.name", "answers", "asker", "variant"])
def test_a_name_that_leaves_its_folder_is_a_problem(parsed: Parsed, key: str, name: str) -> None:
    quoted = "'" + name.replace("\\", "\\\\") + "'"
    with pytest.raises(ConfigError, match=f"{key}=.*becomes the name of a file or folder"):
        parsed("stage=generate", "images=photos", f"{key}={quoted}")


@pytest.mark.parametrize("stage", ["generate", "finetune", "export", "serve", "chat", "evaluate", "pipeline"])
def test_a_stage_that_needs_a_model_asks_for_one_and_names_three_ways(parsed: Parsed, stage: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(f"stage={stage}", "no-model", *required(stage))
    found = [problem for problem in caught.value.problems if "no model is chosen" in problem]
    assert len(found) == 1
    ways = (
        "hardware=api model=gpt-4o",
        "hardware=single-gpu model=qwen2-vl-7b",
        "'hardware.urls=[http://HOST:PORT/v1]'",
    )
    assert all(way in found[0] for way in ways)
    assert not any("model=none" in problem for problem in caught.value.problems)


@pytest.mark.parametrize(
    "overrides", [["render"], ["report"], ["compare", "runs=[a,b]"], ["serve", "stage.action=stop"]]
)
def test_a_stage_that_needs_no_model_runs_without_one(parsed: Parsed, overrides: list[str]) -> None:
    stage, *others = overrides
    assert parsed(f"stage={stage}", "no-model", *others).stage.name == stage


def test_rows_are_converted_without_a_model(parsed: Parsed) -> None:
    own = parsed("stage=convert", "no-model", "dataset=d", "stage.source=rows.csv")
    assert own.stage.folder == Path("outputs/data/d/details/annotations.swift")
    assert parsed("stage=convert", "no-model", "dataset=d", "answers=m").stage.source.name == "m.jsonl"
    with pytest.raises(ConfigError, match="no answers are chosen: set answers=MODEL"):
        parsed("stage=convert", "no-model", "dataset=d")


def test_a_model_on_a_server_is_named_after_what_requests_call_it(parsed: Parsed) -> None:
    run = parsed(
        *("stage=generate", "images=p", "hardware=api", "hardware.urls=[http://h:1/v1]", "no-model"),
        "model.served_name=Qwen/Qwen3-VL-8B-Instruct",
    )
    assert (run.model.name, run.served_name) == ("qwen3-vl-8b-instruct", "Qwen/Qwen3-VL-8B-Instruct")
    assert run.paths.rows.name == "qwen3-vl-8b-instruct.jsonl"
