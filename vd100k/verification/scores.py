"""How the scores of rows are spread, and what a calibration says, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vd100k.verification.calibration import Calibration

VALUES = 12  # different scores that are counted one by one
BINS = 10
SHOWN = 4  # scores in a sentence


def distribution(scores: Sequence[float]) -> list[tuple[str, int]]:
    """The number of rows with each score, from the lowest, or in each tenth if there are many different scores."""
    counts = Counter(round(score, 4) for score in scores)
    if len(counts) <= VALUES:
        return [(f"{score:.2f}", counts[score]) for score in sorted(counts)]
    bins = Counter(min(int(score * BINS), BINS - 1) for score in scores)
    return [(f"{k / BINS:.1f} – {(k + 1) / BINS:.1f}", bins[k]) for k in range(BINS)]


def spread_line(spread: Sequence[tuple[str, int]]) -> str:
    """The distribution as a line, from the highest score: "1.00: 1,743 rows, 0.67: 120, …"."""
    first, *rest = [(name, count) for name, count in reversed(spread) if count]
    parts = [f"{first[0]}: {first[1]:,} rows", *(f"{name}: {count:,}" for name, count in rest[: SHOWN - 1])]
    lower = sum(count for _, count in rest[SHOWN - 1 :])
    return ", ".join([*parts, *([f"lower: {lower:,}"] if lower else [])])


def promise(calibration: Mapping[str, Any]) -> str:
    """What is known about the rows that are kept: "0.8 % of them wrong (at most 3.8 % with 95 % confidence, …)"."""
    chosen = calibration["chosen"]
    share = 100 * chosen["wrong"] / chosen["labelled"]
    return (
        f"{share:.1f} % of them wrong (at most {100 * chosen['at_most']:.1f} % with 95 % confidence, "
        f"from {chosen['labelled']:,} labelled rows)"
    )


def refusal(found: Calibration, key: str, commands: Mapping[str, str]) -> str:
    """Why no threshold keeps the promise, and what to do; ``commands`` has those that label and verify rows."""
    from vd100k.verification.calibration import needed  # imports numpy, and every run imports this module for its words

    wanted = f"{key}.max_wrong={found.max_wrong:g}"
    first = found.tested
    if found.kind == "nothing_scored" or first is None:
        return f"{wanted}: no row has a verdict. Verify the rows first: {commands['verify']}"
    if not found.labels:
        return (
            f"{wanted} needs labels: at least {needed(found.max_wrong)} of the rows that are kept, drawn at random, if "
            f"all of them are right. Label rows: {commands['label']}"
        )
    where = f"of {first.labelled:,} labelled rows with a score of {first.threshold:.2f} or more, {first.wrong:,}"
    if found.kind == "too_many_wrong":
        all_wrong = found.curve[-1].wrong == found.labels
        nothing = " All labelled rows are wrong, so nothing can be kept." if all_wrong else ""
        return (
            f"{wanted} cannot be kept by any threshold: {where} are wrong "
            f"({100 * first.share:.0f} %).{nothing} The scores do not see these errors: a model that is asked again "
            "repeats an error that it always makes. Compare with another model ('verify.agreement.against=[MODEL]'), "
            f"ask a judge (verify=judge model@judge.model=OPTION), or allow more: {commands['verify']}"
        )
    return (
        f"{wanted} needs more labels: {where} are wrong, which shows at most {100 * first.at_most:.1f} %. "
        f"{found.needed:,} labelled rows with such scores would do if no more of them are wrong, about "
        f"{_more(found, first.labelled):,} more rows drawn at random. Label rows: {commands['label']}"
    )


def _more(found: Calibration, labelled: int) -> int:
    """The number of rows to label so that enough of them have a high score."""
    share = labelled / found.labels if found.labels else 1.0
    return max(1, round((found.needed - labelled) / share)) if share else found.needed
