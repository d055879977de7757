"""Code that comes with a model never runs unasked: every stage that loads a folder reads its settings first."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chat_server import chat_server
from tests.conftest import free_ports
from vd100k.config.run import Run
from vd100k.engines.serving.fleet import start
from vd100k.errors import DataError, TrainingError
from vd100k.models import model_folder
from vd100k.runs.summary import Summary
from vd100k.runs.tracker import Tracker
from vd100k.stages import export, finetune

CODE = {"external_plugins": ["plugin_x.py"]}


def make_adapter(folder: Path, **args: object) -> Path:
    """The folder of a LoRA adapter without tensors; ``args`` is what ms-swift keeps beside it."""
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    (folder / "adapter_config.json").write_text('{"r": 8}')
    (folder / "args.json").write_text(json.dumps(args))
    return folder


@pytest.mark.parametrize("broken", ["[]", "{", "7", '{"a":' * 100_000])
def test_a_broken_file_does_not_hide_the_code_that_another_names(folder: Path, tmp_path: Path, broken: str) -> None:
    (folder / "args.json").write_text(json.dumps(CODE))
    (folder / "processor_config.json").write_text(broken)
    found = list(model_folder.faults(folder, trust_remote_code=False))
    assert any("plugin_x.py" in fault for fault in found), found
    assert any("processor_config.json cannot be read" in fault for fault in found), found
    adapter = make_adapter(tmp_path / "adapter", **CODE)
    (adapter / "tokenizer_config.json").write_text(broken)
    found = list(model_folder.adapter_faults(adapter, trust_remote_code=False))
    assert any("plugin_x.py" in fault for fault in found), found
    assert any("tokenizer_config.json cannot be read" in fault for fault in found), found


def test_code_is_found_at_any_depth(folder: Path) -> None:
    (folder / "processor_config.json").write_text(
        '{"image_processor": [{"auto_map": {"AutoImageProcessor": "deep.X"}}]}'
    )
    (fault,) = model_folder.faults(folder, trust_remote_code=False)
    assert "deep.py" in fault


def test_a_base_model_that_is_also_an_adapter_is_refused(folder: Path) -> None:
    # transformers would load the model that the adapter names instead, which nothing has checked.
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "Some/Other"}')
    (fault,) = model_folder.faults(folder, trust_remote_code=False)
    assert "adapter_config.json" in fault


@pytest.fixture
def hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cached folder of the hub model Some/Model; the hub itself is a port where nothing listens."""
    cache = tmp_path / "hub" / "models--Some--Model"
    shutil.copytree(folder, cache / "snapshots" / "abc")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("abc")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{free_ports(1)}")
    return cache / "snapshots" / "abc"


HUB = ("model=qwen2-vl-2b", "model.path=Some/Model")


def test_a_broken_file_of_a_hub_model_does_not_hide_code(light_run: Callable[..., Run], hub: Path) -> None:
    (hub / "args.json").write_text(json.dumps(CODE))
    (hub / "tokenizer_config.json").write_text("[]")
    with pytest.raises(DataError, match=r"plugin_x.py.*trust_remote_code"):
        model_folder.ensure(light_run(*HUB))


def test_a_hub_model_in_the_cache_works_without_the_hub(light_run: Callable[..., Run], hub: Path) -> None:
    model_folder.ensure(light_run(*HUB, "hardware.engine.runs_code=true"))
    model_folder.ensure(light_run(*HUB), trains=True)


def test_a_hub_model_that_cannot_be_checked_is_refused_where_its_code_would_run(
    light_run: Callable[..., Run], hub: Path
) -> None:
    (hub / "config.json").rename(hub / "config.json.incomplete")
    for run, trains in ((light_run(*HUB, "hardware.engine.runs_code=true"), False), (light_run(*HUB), True)):
        with pytest.raises(DataError, match=r"Some/Model[^$]*cannot be reached.*model.path=FOLDER"):
            model_folder.ensure(run, trains)
    model_folder.ensure(light_run(*HUB, "hardware.engine.runs_code=false"))
    model_folder.ensure(light_run(*HUB, "model.trust_remote_code=true"), trains=True)


def test_a_failed_download_of_the_settings_is_refused_where_code_would_run(
    light_run: Callable[..., Run], hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(hub.parent.parent)
    with chat_server(lambda number, body: "") as server:  # it answers 404 for every file
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url.removesuffix("/v1"))
        with pytest.raises(DataError, match=r"cannot be downloaded.*model.path=FOLDER.*model.trust_remote_code=true"):
            model_folder.ensure(light_run(*HUB), trains=True)
        model_folder.ensure(light_run(*HUB, "hardware.engine.runs_code=false"))


def test_only_engines_that_ask_first_may_start_without_a_check(parsed: Callable[..., Run]) -> None:
    engines = ("vllm", "vllm-cpu", "swift", "mlx", "trtllm")
    found = {name: parsed("stage=serve", f"engine@hardware.engine={name}").hardware.engine for name in engines}
    assert [name for name, engine in found.items() if engine and not engine.runs_code] == ["vllm", "vllm-cpu"]


def test_a_foreign_adapter_with_code_is_not_exported(
    vd100k: Callable[..., subprocess.CompletedProcess[str]], folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "plugin_x.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    adapter = make_adapter(tmp_path / "adapter", **CODE)
    done = vd100k("stage=export", "dataset=photos", f"model.path={folder}", f"stage.adapter={adapter}")
    assert done.returncode == 1
    assert "plugin_x.py" in done.stderr
    assert "model.trust_remote_code=true" in done.stderr
    assert not (tmp_path / "ran").exists()
    assert not list(tmp_path.rglob("swift-export.log")), "ms-swift was not started"


def test_an_adapter_is_merged_into_the_model_of_the_run_and_no_other(parsed: Callable[..., Run]) -> None:
    # Without --model, ms-swift loads whatever model the adapter's args.json names.
    run = parsed("stage=export", "dataset=photos")
    assert run.stage.args["model"] == run.paths.base  # type: ignore[union-attr]


def finetune_run(parsed: Callable[..., Run], folder: Path, tmp_path: Path, *overrides: str) -> Run:
    (tmp_path / "train.jsonl").write_text("{}\n")
    return parsed(
        *("stage=finetune", "dataset=photos", f"model.path={folder}", f"output_dir={tmp_path}", "tracking=none"),
        *(f"stage.args.dataset={tmp_path / 'train.jsonl'}", "stage.args.val_dataset=null", *overrides),
    )


def refusal(run: Run, folder: Path) -> str:
    with pytest.raises(DataError) as refused:
        finetune.run(run, run.stage, folder, Summary("finetune"), Tracker(run, folder))  # type: ignore[arg-type]
    assert not list(folder.rglob("swift-*.log")), "ms-swift was not started"
    return str(refused.value)


def test_a_checkpoint_with_code_is_not_resumed(parsed: Callable[..., Run], folder: Path, tmp_path: Path) -> None:
    run = finetune_run(parsed, folder, tmp_path)
    stage: finetune.Finetune = run.stage  # type: ignore[assignment]
    mark = finetune._fingerprint(run, stage, [tmp_path / "train.jsonl"])[:8]
    resumed = make_adapter(stage.folder / f"checkpoints-{mark}" / "checkpoint-3", **CODE)
    (resumed / "trainer_state.json").write_text("{}")
    assert "plugin_x.py" in refusal(run, tmp_path / "logs")


def test_a_folder_that_an_option_of_swift_names_is_checked(
    parsed: Callable[..., Run], folder: Path, tmp_path: Path
) -> None:
    adapter = make_adapter(tmp_path / "first", **CODE)
    run = finetune_run(parsed, folder, tmp_path, f"+stage.args.adapters=[{adapter}]")
    assert "plugin_x.py" in refusal(run, tmp_path / "logs")


def test_an_adapter_with_code_is_not_served(light_run: Callable[..., Run], folder: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", **CODE)
    (adapter / "config.json").write_text("[]")
    run = light_run(
        *("weights=adapter", "dataset=photos", "hardware.engine.adapter_args={}"),
        *(f"model.path={folder}", f"paths.adapter={adapter}"),
    )
    with pytest.raises(DataError, match=r"plugin_x\.py"), start(run, tmp_path):
        pass


@pytest.mark.engine
def test_an_export_whose_mark_was_torn_by_a_power_cut_is_made_again(
    parsed: Callable[..., Run], folder: Path, tmp_path: Path
) -> None:
    adapter = make_adapter(tmp_path / "adapter")
    merged = shutil.copytree(folder, tmp_path / "merged")
    merged.with_name("merged.json").touch()
    run = parsed(
        *("stage=export", "dataset=photos", f"model.path={folder}", f"paths.adapter={adapter}", "tracking=none"),
        *(f"stage.folder={merged}", f"output_dir={tmp_path}", "+stage.args.no_such_option=1"),
    )
    with pytest.raises(TrainingError, match="swift export exited"):  # so ms-swift was started
        export.run(run, run.stage, tmp_path, Summary("export"), Tracker(run, tmp_path))  # type: ignore[arg-type]
