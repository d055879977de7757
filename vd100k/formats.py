"""Rows -> the lines trainers read. Pure.

Sources: ms-swift's custom data set page (messages, images); LLaMA-Factory's data/README
(ShareGPT, dataset_info.json).
"""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]


def swift(row: Row, system: str | None) -> Row:
    """ms-swift: chat messages, the image's place marked by ``<image>``."""
    messages = [
        {"role": "user", "content": f"<image>{row['question']}"},
        {"role": "assistant", "content": row["answer"]},
    ]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    return {"messages": messages, "images": [row["image"]]}


def sharegpt(row: Row, system: str | None) -> Row:
    """LLaMA-Factory: alternating human and gpt turns."""
    return {
        "conversations": [
            {"from": "human", "value": f"<image>{row['question']}"},
            {"from": "gpt", "value": row["answer"]},
        ],
        "images": [row["image"]],
        "system": system or "",
    }


def dataset_info(name: str, file_name: str) -> Row:
    """The entry that registers a ShareGPT file; a column left out of it would be lost, so none is."""
    return {
        name: {
            "file_name": file_name,
            "formatting": "sharegpt",
            "columns": {"messages": "conversations", "images": "images", "system": "system"},
            "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"},
        }
    }
