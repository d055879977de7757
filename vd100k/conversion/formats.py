"""Rows -> the records that trainers read. Pure.

Sources: ms-swift's custom data set page (messages, images, rejected_response); LLaMA-Factory's
data/README (ShareGPT, ranking, dataset_info.json); VisualDataset100K's published files.
"""

from __future__ import annotations

from collections.abc import Callable

from vd100k.io.jsonl import Row

Layout = Callable[[Row, str | None], Row]

TAG = "<image>"
OPTIONS = ("choiceA", "choiceB", "choiceC", "choiceD")


def question(row: Row, between: str = "") -> str:
    """What the trainer's user says: the image's place, marked by ``<image>``, and the question with its options."""
    text: str = row["question"]
    if OPTIONS[0] in row:
        text = "\n".join([text, *(f"{option[-1]}. {row[option]}" for option in OPTIONS)])
    return text if TAG in text else f"{TAG}{between}{text}"


def swift(row: Row, system: str | None) -> Row:
    """ms-swift: chat messages and images; a pair's other answer is ``rejected_response``."""
    messages = [
        {"role": "user", "content": question(row)},
        {"role": "assistant", "content": row["answer"]},
    ]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    record: Row = {"messages": messages, "images": [row["image"]]}
    if "rejected" in row:
        record["rejected_response"] = row["rejected"]
    return record


def sharegpt(row: Row, system: str | None) -> Row:
    """LLaMA-Factory: human and gpt turns; a pair ends with the human's, its answers beside."""
    return {**_turns(row), "images": [row["image"]], "system": system or ""}


def rows(row: Row, system: str | None) -> Row:
    """VisualDataset100K's answer sets: id, question, answer, and a choice's options."""
    options = {option: row[option] for option in OPTIONS if option in row}
    return {"id": row["id"], "question": row["question"], **options, "answer": row["answer"]}


def published(row: Row, system: str | None) -> Row:
    """VisualDataset100K as published, for SFT and DPO: the image by its ``name`` in the image folder."""
    return {"id": row["id"], "image": row["name"], **_turns(row, "\n"), **({"system": system} if system else {})}


def parquet(row: Row, system: str | None) -> Row:
    """What a reader of the data set sees; ``image`` is a path here, the bytes come with writing."""
    kept = ("id", "image", "question", *OPTIONS, "answer", "rejected", "model")
    return {key: row[key] for key in kept if key in row} | {"system": system or ""}


LAYOUTS: dict[str, Layout] = {"swift": swift, "sharegpt": sharegpt, "vd100k": published, "parquet": parquet}


def _turns(row: Row, between: str = "") -> Row:
    asked = {"from": "human", "value": question(row, between)}
    answered = {"from": "gpt", "value": row["answer"]}
    if "rejected" not in row:
        return {"conversations": [asked, answered]}
    return {"conversations": [asked], "chosen": answered, "rejected": {"from": "gpt", "value": row["rejected"]}}


def dataset_info(name: str, file_name: str, images: str, system: bool, ranking: bool) -> Row:
    """The entry that registers a ShareGPT file; a column left out of it would be lost, so none is."""
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
