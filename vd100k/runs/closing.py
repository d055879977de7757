"""The last lines of a run: the figure, the page, and the next command with the overrides of this one."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vd100k.config import sweep_job
from vd100k.config.run import Run
from vd100k.evaluation.certainty import brief
from vd100k.evaluation.metrics import title
from vd100k.evaluation.sides import figures
from vd100k.runs.summary import Summary
from vd100k.verification.scores import promise

TRAINABLE = ["hardware=single-gpu", "model=qwen2-vl-7b"]  # suggested where the model so far has no weights
# Overrides that are about one run, or one stage of it.
ONCE = ("stage", "stage.", "dry_run", "preview", "shard", "limit", "sample", "hydra.")
OF_MODEL = ("model", "model.", "hardware", "hardware.", "engine@hardware.engine", "answers")
OF_VERIFICATION = ("verify", "verify.", "judge.", "model@judge.model", "hardware@judge.hardware")
PAGE = "report.html"
CENT = 0.01
GB = 1_000_000_000


def lines(run: Run, summary: Summary, folder: Path, argv: list[str]) -> list[str]:
    """What one wants to know when a run has finished; ``argv`` is its command line."""
    page = folder / PAGE
    shown = {
        "result": figure(vars(summary)),
        "page": str(page if page.exists() else folder / "summary.json"),
        "next": next_command(run, argv),
    }
    heading = f"\n{summary.stage} finished in {summary.seconds:.0f} s"
    return [heading, *(f"  {name:<6}  {text}" for name, text in shown.items() if text)]


def figure(summary: dict[str, Any]) -> str | None:
    """The one figure of a stage in words; of a pipeline, that of its last step that has one."""
    # The size of an exported model, and a check that has passed, say less than the figure of any other step.
    exports = [step for step in summary["steps"] if step["stage"] in ("export", "parity", "parity_merged")]
    for step in reversed([*exports, *(step for step in summary["steps"] if step not in exports)]):
        if found := figure(step):
            return found
    describe = FIGURES.get(summary["stage"])
    return describe(summary) if describe and summary["counts"] else None


def asked(summary: Summary) -> str:
    """A sentence about the requests of a pipeline; nothing if none of its steps asks a model."""
    sent, reused = summary.counts.get("requests", 0), summary.counts.get("reused", 0)
    return f"{_count(sent, 'request')} sent, {_count(reused, 'answer')} reused. " if sent or reused else ""


def failed_step(name: str, number: int, steps: int, argv: list[str]) -> str:
    """The lines about a step that failed: which one, and the command that continues."""
    return (
        f"\nStep {number} of {steps}, {name}, failed; what the steps have made so far is kept. Once the cause is "
        f"removed, continue with the same command:\n  {command(argv[1:], argv[0])}"
    )


def next_command(run: Run, argv: list[str]) -> str | None:
    """The command that goes on from a run, with the overrides of this one that still apply; None if there is none."""
    if {"-m", "--multirun"} & set(argv) or sweep_job.is_running():
        return None  # one job of a sweep, whose overrides have several values
    if run.preview or run.shard:  # the rest of the images, or the rows of all parts
        return command(_without(argv[1:], ("preview", "shard")), argv[0])
    kept = _without(argv[1:], ONCE)
    trains = bool(run.model.path)
    match run.stage.name:
        case "generate" if run.task.reader == "question":
            kept = [*_without(kept, ("task",)), "task=answer", f"asker={run.model.name}"]
            return command(["stage=generate", *kept], argv[0])
        case "generate" | "label":
            return command(["stage=convert", *kept], argv[0])
        case "verify":
            return command(["stage=label", *_without(kept, OF_VERIFICATION)], argv[0])
        case "convert" if run.format.name == "swift" and not getattr(run.stage, "products", None):
            if not trains:
                kept = [*_without(kept, OF_MODEL), f"answers={run.answers}", *TRAINABLE]
            method = ["stage.method=dpo"] if run.rejected else []
            return command(["stage=finetune", *kept, *method], argv[0])
        case "parity" if run.weights == "base":
            return command(["stage=finetune", *kept], argv[0])
        case "finetune":
            return command(["stage=export", *kept], argv[0])
        case "export" if run.hardware.engine:
            return command(["stage=serve", *kept, "weights=merged"], argv[0])
        case "evaluate" if "after" in run.parts and run.parts["after"].hardware.urls is None:
            return command(["stage=serve", *kept, "weights=merged"], argv[0])
        case "pipeline" if run.parts:
            return next_command(list(run.parts.values())[-1], argv)
    return None


def command(overrides: list[str], program: str) -> str:
    """A command line to type."""
    start = ["python", Path(program).name] if program.endswith(".py") else [Path(program).name]
    return " ".join([*start, *map(_quoted, overrides)])


def _quoted(override: str) -> str:
    """An override as one types it: in double quotes if it has quotes for Hydra."""
    return f'"{override}"' if "'" in override and not set(override) & set('"$`\\!') else shlex.quote(override)


def _without(overrides: list[str], names: tuple[str, ...]) -> list[str]:
    """The overrides of other keys; a name with a dot at its end stands for all keys that begin with it."""
    kept = []
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if key not in names and not key.startswith(tuple(name for name in names if name.endswith("."))):
            kept.append(override)
    return kept


def _render(step: dict[str, Any]) -> str:
    return f"{step['counts']['train']} training and {step['counts']['heldout']} held-out pictures"


def _generate(step: dict[str, Any]) -> str:
    counts = step["counts"]
    cost = counts.get("cost")
    price = "" if cost is None else f", ${cost:.2f}" if cost >= CENT or not cost else f", ${cost:.4f}"
    return f"{_count(counts['rows'], 'answer')}, {counts['failed']:,} failed{price}"


def _convert(step: dict[str, Any]) -> str | None:
    counts = step["counts"]
    if "train" not in counts:  # the products of a data set
        return _count(sum(counts.values()), "row")
    kept = sum(counts.get(side, 0) for side in ("train", "val", "test"))
    if not kept:
        return None
    calibration = step.get("certainty", {}).get("calibration")
    known = f"; {promise(calibration)}" if calibration and calibration.get("promised") else ""
    return f"{kept:,} of {_count(kept + counts['rejected'], 'row')} kept{known}"


def _verify(step: dict[str, Any]) -> str | None:
    counts = step["counts"]
    without = f", none on {counts['without_verdict']:,}" if counts.get("without_verdict") else ""
    return f"verdicts on {_count(counts['rows'], 'row')}{without}" if "rows" in counts else None


def _finetune(step: dict[str, Any]) -> str | None:
    curve = step["metrics"].get("loss")
    steps = _count(step["counts"]["steps"], "step")
    return f"loss {curve[0][1]:.2g} → {curve[-1][1]:.2g} in {steps}" if curve else None


def _export(step: dict[str, Any]) -> str:
    size = step["counts"]["model_bytes"]
    return f"merged model, {size / GB:.1f} GB" if size >= GB else f"merged model, {size / 1e6:.1f} MB"


def _label(step: dict[str, Any]) -> str | None:
    judged = step["counts"]["right"] + step["counts"]["wrong"]
    share = f": {100 * step['counts']['wrong'] / judged:.0f} %" if judged else ""
    return f"{step['counts']['wrong']:,} of {_count(judged, 'labelled answer')} wrong{share}" if judged else None


def _evaluate(step: dict[str, Any]) -> str | None:
    sides, sure = figures(step["metrics"]), step.get("certainty", {})
    overlaps = any("mean_iou" in side for side in sides.values())
    main = sure.get("main", "mean_iou" if overlaps else "exact_match")
    known = [side[main] for side in sides.values() if main in side]
    if not known:
        return None
    images = next((f" on {_count(file['rows'], 'held-out image')}" for file in step["inputs"] if file["rows"]), "")
    change = sure.get("changes", {}).get(main)
    changed = f", {brief(change)}" if change else ""
    forgot = [row for row in sure.get("retention", [])[1:] if (row["change"] or {}).get("verdict") == "worse"]
    lost = "".join(f"; forgot {row['name'].partition(':')[0]}" for row in forgot)
    if main == "mean_iou":
        told = f"mean IoU {' → '.join(f'{value:.3f}' for value in known)}"
    elif main == "exact_match":
        told = f"{' → '.join(f'{100 * value:.3g} %' for value in known)} exact"
    else:
        told = f"{title(main)} {' → '.join(f'{100 * value:.3g} %' for value in known)}"
    return f"{told}{images}{changed}{lost}"


def _parity(step: dict[str, Any]) -> str | None:
    counts = step["counts"]
    equal, different = counts.get("equal", 0), counts.get("different", 0)
    if different:
        return f"{different:,} of {_count(equal + different, 'row')} not trained on as served"
    return f"{_count(equal, 'row')} trained on as served" if equal else None


FIGURES: dict[str, Callable[[dict[str, Any]], str | None]] = {
    "render": _render,
    "generate": _generate,
    "verify": _verify,
    "convert": _convert,
    "parity": _parity,
    "parity_merged": _parity,
    "finetune": _finetune,
    "export": _export,
    "label": _label,
    "evaluate": _evaluate,
}


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
