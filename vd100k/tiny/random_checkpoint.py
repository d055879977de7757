"""Checkpoints with random weights of each Qwen-VL family, so that every stage can be run with each of them.

``make`` writes a folder of about 20 M parameters in the layout in which the family is published: ``config.json`` (flat
for Qwen2-VL and Qwen2.5-VL, nested for Qwen3-VL), tokenizer, chat template, image processor and weights. Its answers
mean nothing, but they depend on the whole prompt and on the image. So they show whether two programs
compute the same model.

Sources of the layouts: the files of Qwen/Qwen2-VL-2B-Instruct, Qwen/Qwen2.5-VL-3B-Instruct and
Qwen/Qwen3-VL-4B-Instruct on the Hugging Face hub.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vd100k.tiny import checkpoint

if TYPE_CHECKING:
    from transformers import PreTrainedModel

HIDDEN = 128
HEADS = 2  # of 64: vLLM's CPU attention has no kernel for 16
LAYERS = 2
# Half a head's 64 dimensions, divided among time, height and width as in the published models.
SECTIONS = [8, 12, 12]
INTERLEAVED_SECTIONS = [12, 10, 10]
# With plain random weights, a model whose output embeddings are its input embeddings repeats the last token forever.
# Larger layers outweigh the token itself, and larger embeddings of letters and <|im_end|> make these the usual output.
LAYER_SCALE = 8.0
EMBEDDING_SCALE = 10.0
USUAL = (*range(ord("a"), ord("z") + 1), checkpoint.SPECIAL_IDS["<|im_end|>"])

CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
SPECIAL_TOKENS = {
    "image_token_id": checkpoint.SPECIAL_IDS["<|image_pad|>"],
    "video_token_id": checkpoint.SPECIAL_IDS["<|video_pad|>"],
    "vision_start_token_id": checkpoint.SPECIAL_IDS["<|vision_start|>"],
    "vision_end_token_id": checkpoint.SPECIAL_IDS["<|vision_end|>"],
}
TEXT = {
    "attention_dropout": 0.0,
    "bos_token_id": checkpoint.SPECIAL_IDS["<|endoftext|>"],
    "eos_token_id": checkpoint.SPECIAL_IDS["<|im_end|>"],
    "hidden_act": "silu",
    "hidden_size": HIDDEN,
    "initializer_range": 0.02,
    "intermediate_size": 256,
    "max_position_embeddings": 32768,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "num_key_value_heads": 1,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "use_cache": True,
    "vocab_size": checkpoint.VOCAB_SIZE,
}
FLAT_TEXT = {
    **TEXT,
    "max_window_layers": LAYERS,
    "rope_scaling": {"type": "mrope", "mrope_section": SECTIONS},
    "rope_theta": 1_000_000.0,
    "sliding_window": 32768,
    "torch_dtype": "float32",
    "use_sliding_window": False,
}


@dataclass(frozen=True)
class Family:
    """What the published files of a family contain; the ``mean`` and ``std`` of pixels are those of a channel."""

    config: Callable[[], dict[str, Any]]
    processor: str  # the class of the processor
    patch_size: int
    bounds: dict[str, Any]  # the smallest and largest image, in pixels
    mean: list[float]
    std: list[float]
    template: str = checkpoint.CHAT_TEMPLATE
    video: dict[str, Any] | None = None  # of video_preprocessor_config.json


def make(family: str, folder: Path, seed: int = 0) -> None:
    """Write a random checkpoint of a family of ``FAMILIES`` (the ``model_type`` of its ``config.json``)."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText
    from transformers.utils import logging

    facts = FAMILIES[family]
    torch.manual_seed(seed)
    logging.disable_progress_bar()
    model = AutoModelForImageTextToText.from_config(AutoConfig.for_model(**facts.config()), dtype=torch.float32)
    _scale(model)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        model.save_pretrained(scratch)
        (Path(scratch) / "model.safetensors").replace(folder / "model.safetensors")
    # Written last, so that a folder with config.json is complete; transformers would write a layout of its own.
    save_settings(family, folder)


def save_settings(family: str, folder: Path) -> None:
    """Write all files of a checkpoint but its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    _save_processor(FAMILIES[family], folder)
    checkpoint.write_json(folder / "config.json", FAMILIES[family].config())


def _scale(model: PreTrainedModel) -> None:
    """Make the answers of a random model depend on its input."""
    import torch

    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".layers." in name and weight.ndim == 2:
                weight.mul_(LAYER_SCALE)
        model.get_input_embeddings().weight[list(USUAL)] *= EMBEDDING_SCALE


def _save_processor(family: Family, folder: Path) -> None:
    """Write the tokenizer, the chat template and the settings for images and videos."""
    checkpoint.save_tokenizer(folder, family.template)
    shared = {
        "patch_size": family.patch_size,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "image_mean": family.mean,
        "image_std": family.std,
        "processor_class": family.processor,
    }
    image = {"image_processor_type": "Qwen2VLImageProcessor", **family.bounds, **shared}
    checkpoint.write_json(folder / "preprocessor_config.json", image)
    if family.video:
        checkpoint.write_json(folder / "video_preprocessor_config.json", family.video | shared)


def _qwen2_vl() -> dict[str, Any]:
    return {
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "model_type": "qwen2_vl",
        **SPECIAL_TOKENS,
        "vision_token_id": checkpoint.SPECIAL_IDS["<|vision_pad|>"],
        **FLAT_TEXT,
        "vision_config": {
            "depth": LAYERS,
            "embed_dim": HIDDEN,
            "mlp_ratio": 4,
            "num_heads": HEADS,
            "in_chans": 3,
            "hidden_size": HIDDEN,  # of the language model
            "patch_size": 14,
            "spatial_merge_size": 2,
            "spatial_patch_size": 14,
            "temporal_patch_size": 2,
        },
    }


def _qwen2_5_vl() -> dict[str, Any]:
    return {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        **SPECIAL_TOKENS,
        "vision_token_id": checkpoint.SPECIAL_IDS["<|vision_pad|>"],
        **FLAT_TEXT,
        "vision_config": {
            "depth": LAYERS,
            "hidden_act": "silu",
            "hidden_size": HIDDEN,
            "intermediate_size": 256,
            "num_heads": HEADS,
            "in_chans": 3,
            "out_hidden_size": HIDDEN,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "spatial_patch_size": 14,
            "window_size": 112,
            "fullatt_block_indexes": [LAYERS - 1],  # the first block attends within windows
            "tokens_per_second": 2,
            "temporal_patch_size": 2,
        },
    }


def _qwen3_vl() -> dict[str, Any]:
    return {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "model_type": "qwen3_vl",
        **SPECIAL_TOKENS,
        "text_config": {
            **TEXT,
            "attention_bias": False,
            "dtype": "float32",
            "head_dim": HIDDEN // HEADS,
            "model_type": "qwen3_vl_text",
            "rope_scaling": {
                "mrope_interleaved": True,
                "mrope_section": INTERLEAVED_SECTIONS,
                "rope_type": "default",
            },
            "rope_theta": 5_000_000,
        },
        "tie_word_embeddings": True,
        "vision_config": {
            "deepstack_visual_indexes": list(range(LAYERS)),  # at most one for each layer of the language model
            "depth": LAYERS,
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_size": HIDDEN,
            "in_channels": 3,
            "initializer_range": 0.02,
            "intermediate_size": 256,
            "model_type": "qwen3_vl",
            "num_heads": HEADS,
            "num_position_embeddings": 2304,
            "out_hidden_size": HIDDEN,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
    }


QWEN2_BOUNDS = {"min_pixels": 3136, "max_pixels": 12_845_056}
FAMILIES = {
    "qwen2_vl": Family(_qwen2_vl, "Qwen2VLProcessor", 14, QWEN2_BOUNDS, CLIP_MEAN, CLIP_STD),
    "qwen2_5_vl": Family(_qwen2_5_vl, "Qwen2_5_VLProcessor", 14, QWEN2_BOUNDS, CLIP_MEAN, CLIP_STD),
    "qwen3_vl": Family(
        _qwen3_vl,
        "Qwen3VLProcessor",
        16,
        {"size": {"longest_edge": 16_777_216, "shortest_edge": 65_536}},
        [0.5] * 3,
        [0.5] * 3,
        checkpoint.CHAT_TEMPLATE.replace(checkpoint.DEFAULT_SYSTEM, ""),
        {"video_processor_type": "Qwen3VLVideoProcessor", "size": {"longest_edge": 25_165_824, "shortest_edge": 4096}},
    ),
}
