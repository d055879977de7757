"""What to do about a conversion that leaves nothing to train on, or nothing to measure the loss on."""

from __future__ import annotations

import math
from pathlib import Path

from vd100k.config.run import Run
from vd100k.config.stages import Convert, Rules
from vd100k.conversion.run import Outcome


def nothing_to_train_on(run: Run, outcome: Outcome, rejected: Path) -> str:
    """Why no row is left to train on, and what to do about it."""
    if not outcome.rows:
        return "It has no rows."
    if not outcome.reasons:
        return f"All {outcome.rows} rows are held out: set {run.key}.split_dataset_ratio to a smaller share."
    [(reason, _)] = outcome.reasons.most_common(1)
    rule = f", or turn the rule off with {run.key}.rules.{reason}=false" if reason in Rules.model_fields else ""
    return (
        f"Of {outcome.rows} rows, {outcome.reasons.total()} were rejected: {outcome.why()}. Look at them in "
        f"{rejected}, and correct their source{rule}."
    )


def nothing_held_out(run: Run, stage: Convert, outcome: Outcome) -> str:
    """A sentence about an empty validation side, and how to get another one."""
    none = "No row is held out, so the training has no evaluation loss"
    if outcome.lowest_draw is None:
        return f"{none}: the source has splits of its own, and no row in one called val, valid, validation or dev."
    enough = max(0.1, math.ceil(outcome.lowest_draw * 100 + 1e-6) / 100)
    set_it = f" Set {run.key}.split_dataset_ratio={enough:g} to hold out some." if outcome.written > 1 else ""
    return f"{none}: there are too few rows for {run.key}.split_dataset_ratio={stage.split_dataset_ratio:g}.{set_it}"
