"""Turn rows into the records that trainers read. Pure functions.

Sources: ms-swift's documentation on custom data sets (messages, images, rejected_response); LLaMA-Factory's
data/README (ShareGPT, ranking, dataset_info.json); the published files of VisualDataset100K.
"""

from __future__ import annotations

from collections.abc import Callable

from vd100k.conversion.token_lengths import TAG, Turn
from vd100k.images.groups import names
from vd100k.io.jsonl import Row

# A function of a row and the system prompt that returns the record.
Layout = Callable[[Row, str | None], Row]

OPTIONS = ("choiceA", "choiceB", "choiceC", "choiceD")


def asked(row: Row) -> list[Turn]:
    """The questions of a row, with the options of a multiple-choice one, and their answers."""
    if "turns" in row:
        return [(question, answer) for question, answer in row["turns"]]
    text: str = row["question"]
    if OPTIONS[0] in row:
        text = "\n".join([text, *(f"{option[-1]}. {row[option]}" for option in OPTIONS)])
    return [(text, row["answer"])]


def turns(row: Row, separator: str = "") -> list[Turn]:
    """The same with an ``<image>`` tag for each image, before the first question unless the texts have them."""
    said, tags = asked(row), TAG * len(names(row))
    if not tags:
        return said
    for question, _ in said:
        if TAG in question:
            return said
    first, answer = said[0]
    said[0] = f"{tags}{separator}{first}", answer
    return said


def swift(row: Row, system: str | None) -> Row:
    """ms-swift: chat messages and images; the rejected answer of a pair is ``rejected_response``.

    ``objects`` are the labels and boxes that stand in an answer with ``placeholders``.
    """
    said = turns(row)
    if "placeholders" in row:
        answers = [row["placeholders"]] if isinstance(row["placeholders"], str) else row["placeholders"]
        said = [(question, answer) for (question, _), answer in zip(said, answers, strict=True)]
    messages = [{"role": "system", "content": system}] if system else []
    for question, answer in said:
        messages += {"role": "user", "content": question}, {"role": "assistant", "content": answer}
    record: Row = {"messages": messages}
    if images := names(row):  # a row of text alone has none
        record["images"] = images
    if "objects" in row:
        record["objects"] = row["objects"]
    if "rejected" in row:
        record["rejected_response"] = row["rejected"]
    return record


def sharegpt(row: Row, system: str | None) -> Row:
    """LLaMA-Factory: human and gpt turns; for a pair, the human turn alone, with both answers in their own fields."""
    return {**_turns(row), "images": names(row), "system": system or ""}


def rows(row: Row, system: str | None) -> Row:
    """The answer sets of VisualDataset100K: id, question, answer, and the options of a multiple-choice question."""
    options = {option: row[option] for option in OPTIONS if option in row}
    return {"id": row["id"], "question": row["question"], **options, "answer": row["answer"]}


def published(row: Row, system: str | None) -> Row:
    """VisualDataset100K as published, for SFT and DPO; ``image`` is relative to the image folder."""
    return {"id": row["id"], "image": row["name"], **_turns(row, "\n"), **({"system": system} if system else {})}


def published_groups(row: Row, system: str | None) -> Row:
    """The same for groups of images: ``image`` is a list in every row, because a column has one type."""
    return {**published({"name": None, **row}, system), "image": row["names"] if "names" in row else [row["name"]]}


def parquet(row: Row, system: str | None) -> Row:
    """The columns of a Parquet data set; ``image`` is a path here, and the writer replaces it by the file's bytes."""
    kept = ("id", "image", "question", *OPTIONS, "answer", "rejected", "model")
    return {key: str(row[key]) for key in kept if key in row} | {"system": system or ""}


def parquet_groups(row: Row, system: str | None) -> Row:
    """The same for groups of images: ``images`` is a list of paths in every row."""
    record = parquet(row, system)
    record.pop("image", None)
    return {**record, "images": names(row)}


LAYOUTS: dict[str, Layout] = {"swift": swift, "sharegpt": sharegpt, "vd100k": published, "parquet": parquet}
# The layouts of data sets with groups of images, in the formats whose column of images has another type then.
GROUP_LAYOUTS: dict[str, Layout] = {"vd100k": published_groups, "parquet": parquet_groups}


def _turns(row: Row, separator: str = "") -> Row:
    said = [
        {"from": role, "value": text}
        for turn in turns(row, separator)
        for role, text in zip(("human", "gpt"), turn, strict=True)
    ]
    if "rejected" not in row:
        return {"conversations": said}
    return {"conversations": said[:-1], "chosen": said[-1], "rejected": {"from": "gpt", "value": row["rejected"]}}


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
