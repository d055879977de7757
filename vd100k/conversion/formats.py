"""Turn rows into the records that trainers read. Pure functions.

Sources: ms-swift's documentation on custom data sets (messages, images, rejected_response); LLaMA-Factory's
data/README (ShareGPT, ranking, dataset_info.json); the published files of VisualDataset100K.
"""

from __future__ import annotations

from collections.abc import Callable

from vd100k.io.jsonl import Row

# A function of a row and the system prompt that returns the record.
Layout = Callable[[Row, str | None], Row]

TAG = "<image>"
OPTIONS = ("choiceA", "choiceB", "choiceC", "choiceD")


def question(row: Row, separator: str = "") -> str:
    """The user's turn: the ``<image>`` tag, the question, and the options if it is multiple-choice."""
    text: str = row["question"]
    if OPTIONS[0] in row:
        text = "\n".join([text, *(f"{option[-1]}. {row[option]}" for option in OPTIONS)])
    return text if TAG in text else f"{TAG}{separator}{text}"


def swift(row: Row, system: str | None) -> Row:
    """ms-swift: chat messages and images; the rejected answer of a pair is ``rejected_response``.

    ``objects`` are the labels and boxes that stand in an answer with ``placeholders``.
    """
    messages = [
        {"role": "user", "content": question(row)},
        {"role": "assistant", "content": row.get("placeholders", row["answer"])},
    ]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    record: Row = {"messages": messages, "images": [row["image"]]}
    if "objects" in row:
        record["objects"] = row["objects"]
    if "rejected" in row:
        record["rejected_response"] = row["rejected"]
    return record


def sharegpt(row: Row, system: str | None) -> Row:
    """LLaMA-Factory: human and gpt turns; for a pair, the human turn alone, with both answers in their own fields."""
    return {**_turns(row), "images": [row["image"]], "system": system or ""}


def rows(row: Row, system: str | None) -> Row:
    """The answer sets of VisualDataset100K: id, question, answer, and the options of a multiple-choice question."""
    options = {option: row[option] for option in OPTIONS if option in row}
    return {"id": row["id"], "question": row["question"], **options, "answer": row["answer"]}


def published(row: Row, system: str | None) -> Row:
    """VisualDataset100K as published, for SFT and DPO; ``image`` is relative to the image folder."""
    return {"id": row["id"], "image": row["name"], **_turns(row, "\n"), **({"system": system} if system else {})}


def parquet(row: Row, system: str | None) -> Row:
    """The columns of a Parquet data set; ``image`` is a path here, and the writer replaces it by the file's bytes."""
    kept = ("id", "image", "question", *OPTIONS, "answer", "rejected", "model")
    return {key: row[key] for key in kept if key in row} | {"system": system or ""}


LAYOUTS: dict[str, Layout] = {"swift": swift, "sharegpt": sharegpt, "vd100k": published, "parquet": parquet}


def _turns(row: Row, separator: str = "") -> Row:
    asked = {"from": "human", "value": question(row, separator)}
    answered = {"from": "gpt", "value": row["answer"]}
    if "rejected" not in row:
        return {"conversations": [asked, answered]}
    return {"conversations": [asked], "chosen": answered, "rejected": {"from": "gpt", "value": row["rejected"]}}


def dataset_info(name: str, file_name: str, images: str, system: bool, ranking: bool) -> Row:
    """The entry that registers a ShareGPT file; it names every column, because LLaMA-Factory ignores the others."""
    columns = {"messages": "conversations", "images": images}
    if system:
        columns["system"] = "system"
    if ranking:
        columns |= {"chosen": "chosen", "rejected": "rejected"}
    return {
        name: {
            "file_name": file_name,
            "formatting": "sharegpt",
            **({"ranking": True} if ranking else {}),
            "columns": columns,
            "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"},
        }
    }
