"""Tiny Qwen2-VL checkpoints: configuration, byte-level tokenizer and compact storage.

A full checkpoint has Qwen2-VL's 151,936 embedding rows and Qwen's own special-token ids, because trainers and servers
hard-code them: without image pad 151655, ms-swift's template ignores the images. Only 270 rows are ever used. The
stored file contains only those, and each matrix as int8 with one scale per row. ``unpack`` writes a full checkpoint
that any engine loads. Its unused rows are zero. Training takes their logits into account, so no engine generates them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

HERE = Path(__file__).parent
VOCAB_SIZE = 151936
FIRST_SPECIAL = 151643
SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
SPECIAL_IDS = {token: FIRST_SPECIAL + k for k, token in enumerate(SPECIALS)}
ROWS = (*range(256), *SPECIAL_IDS.values())  # embedding rows in use: the bytes, then the special tokens
EMBEDDING = "model.embed_tokens.weight"
PIXELS = 112 * 112  # every picture is resized to about this area

# The chat template of Qwen2-VL and Qwen2.5-VL; that of Qwen3-VL is the same without a default system prompt.
DEFAULT_SYSTEM = (
    "{% if loop.first and message.role != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    f"{DEFAULT_SYSTEM}"
    "<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}"
    "{% if part.type in ('image', 'image_url') or 'image' in part or 'image_url' in part %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part.type == 'video' or 'video' in part %}"
    "<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def config() -> dict[str, Any]:
    """The content of ``config.json``, in the flat layout of the published Qwen2-VL, which all engines read."""
    return {
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "model_type": "qwen2_vl",
        "bos_token_id": SPECIAL_IDS["<|endoftext|>"],
        "eos_token_id": SPECIAL_IDS["<|im_end|>"],
        "vision_start_token_id": SPECIAL_IDS["<|vision_start|>"],
        "vision_end_token_id": SPECIAL_IDS["<|vision_end|>"],
        "vision_token_id": SPECIAL_IDS["<|vision_pad|>"],
        "image_token_id": SPECIAL_IDS["<|image_pad|>"],
        "video_token_id": SPECIAL_IDS["<|video_pad|>"],
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,  # heads of 64: vLLM's CPU attention has no kernel for 16
        "num_key_value_heads": 1,
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "rope_scaling": {"type": "mrope", "mrope_section": [8, 12, 12]},
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
        "use_cache": True,
        "use_sliding_window": False,
        "sliding_window": 32768,
        "max_window_layers": 4,
        "torch_dtype": "float32",
        "vision_config": {
            "depth": 4,
            "embed_dim": 128,
            "num_heads": 2,
            "mlp_ratio": 4,
            "hidden_size": 128,
            "in_channels": 3,
            "in_chans": 3,
            "patch_size": 14,
            "spatial_patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
    }


def pack(tensors: dict[str, np.ndarray], path: Path, base: dict[str, np.ndarray] | None = None) -> None:
    """Write ``tensors`` in the compact format: float32, published names, one embedding row for each of ``ROWS``.

    Tensors that equal those of ``base`` are left out; ``tensors`` restores them from there.
    """
    kept: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        if base is not None and np.array_equal(tensor, base[name]):
            continue
        if tensor.ndim < 2:
            kept[name] = tensor.astype(np.float16)
            continue
        rows = tensor.reshape(len(tensor), -1)
        scale = np.maximum(np.abs(rows).max(axis=1), 1e-8) / 127
        kept[name] = np.rint(rows / scale[:, None]).astype(np.int8).reshape(tensor.shape)
        kept[f"{name}.scale"] = scale.astype(np.float32)
    save_file(kept, path)


def tensors(name: str) -> dict[str, np.ndarray]:
    """The stored tensors of ``student``, ``teacher`` or ``reader`` as float32, with the embedding rows in use.

    The teacher's file contains only the tensors that differ from the student's: its vision encoder is the same.
    """
    kept = load_file(HERE / f"{name}.safetensors")
    read = tensors("student") if name == "teacher" else {}
    for key, tensor in kept.items():
        if key.endswith(".scale"):
            continue
        read[key] = tensor.astype(np.float32)
        if tensor.dtype == np.int8:
            scale = kept[f"{key}.scale"].reshape(-1, *[1] * (tensor.ndim - 1))
            read[key] *= scale
    return read


def unpack(name: str, folder: Path) -> None:
    """Write the full checkpoint of ``student``, ``teacher`` or ``reader``; its embedding alone is 78 MB."""
    save(tensors(name), folder)


def save(tensors: dict[str, np.ndarray], folder: Path) -> None:
    """Write a full checkpoint of ``tensors``, which have one embedding row for each of ``ROWS``."""
    folder.mkdir(parents=True, exist_ok=True)
    embedding = np.zeros((VOCAB_SIZE, tensors[EMBEDDING].shape[1]), np.float32)
    embedding[list(ROWS)] = tensors[EMBEDDING]
    full = tensors | {EMBEDDING: embedding}
    save_tokenizer(folder)
    save_file(full, folder / "model.safetensors", metadata={"format": "pt"})
    # Written last, so that a folder with config.json is complete.
    write_json(folder / "config.json", config())


def save_tokenizer(folder: Path, template: str = CHAT_TEMPLATE) -> None:
    """Write the tokenizer, the chat template, the image processor settings and the generation defaults."""
    vocab = {symbol: byte for byte, symbol in enumerate(_byte_symbols())} | SPECIAL_IDS
    write_json(folder / "vocab.json", vocab)
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    special = {
        token: {
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for token in SPECIALS
    }
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    write_json(
        folder / "tokenizer.json",
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": SPECIAL_IDS[token], **fields} for token, fields in special.items()],
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": byte_level,
            "post_processor": byte_level,
            "decoder": byte_level,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": "",
                "end_of_word_suffix": "",
                "fuse_unk": False,
                "byte_fallback": False,
                "vocab": vocab,
                "merges": [],
            },
        },
    )
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "Qwen2Tokenizer",
            "added_tokens_decoder": {str(SPECIAL_IDS[t]): fields for t, fields in special.items()},
            "additional_special_tokens": list(SPECIALS[1:]),
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "bos_token": None,
            "unk_token": None,
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
            "errors": "replace",
            "model_max_length": 32768,
            "split_special_tokens": False,
            "chat_template": template,
        },
    )
    write_json(folder / "chat_template.json", {"chat_template": template})
    write_json(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "Qwen2VLImageProcessor",
            "processor_class": "Qwen2VLProcessor",
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
            "min_pixels": PIXELS,
            "max_pixels": PIXELS,
            "patch_size": 14,
            "merge_size": 2,
            "temporal_patch_size": 2,
        },
    )
    write_json(
        folder / "generation_config.json",
        {
            "bos_token_id": SPECIAL_IDS["<|endoftext|>"],
            "eos_token_id": [SPECIAL_IDS["<|im_end|>"], SPECIAL_IDS["<|endoftext|>"]],
            "pad_token_id": SPECIAL_IDS["<|endoftext|>"],
            "do_sample": False,
        },
    )


def _byte_symbols() -> list[str]:
    """The printable character for each byte in byte-level BPE, as in GPT-2's table."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
