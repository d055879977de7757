"""Checks for combinations of model, machine and engine that would not start, could not answer, or would be open."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from vd100k.config.run import LOOPBACK, Run

CHAT_TOKENS = 256  # of one image in Qwen-VL-Chat

Problems = Iterator[str]


def check_server(run: Run) -> Problems:
    """A server that would not start, could not answer, or would be open to others."""
    hardware, engine, model = run.hardware, run.hardware.engine, run.model
    if engine is None:
        return
    yield from _check_host(run)
    if hardware.urls is None and not hardware.replicas:
        yield "hardware.replicas=0 starts no server: set hardware.replicas=1 or more"
    if hardware.urls is None and hardware.port is None:
        yield "hardware.port is missing, the port that the server listens on: set hardware.port=8000 or another"
    if run.weights == "adapter" and engine.adapter_args is None:
        yield f"{engine.name} cannot serve an adapter beside its base: choose weights=merged"
    tokens = math.ceil(model.max_pixels / model.token_side**2)
    if hardware.max_model_len in engine.args.values() and hardware.max_model_len and tokens >= hardware.max_model_len:
        yield (
            f"model.max_pixels={model.max_pixels} turns an image into as many as {tokens} tokens, so "
            "hardware.max_model_len="
            f"{hardware.max_model_len} leaves no room for an answer: set model.max_pixels="
            f"{hardware.max_model_len * 3 // 4 * model.token_side**2}, or a longer context"
        )
    if run.cluster.nodes_per_replica > 1:
        yield from _check_shared(run)
    if "max_multimodal_len" in engine.args:
        yield from _check_engine_lengths(engine.args, model.images_per_prompt)
    if hardware.replica_weights and len(hardware.replica_weights) != hardware.replicas:
        yield (
            f"hardware.replica_weights has {len(hardware.replica_weights)} entries for {hardware.replicas} replicas: "
            "set one for each replica"
        )


def _check_shared(run: Run) -> Problems:
    """Several machines can share one replica if the engine is able to, and all of them belong to a replica."""
    hardware, cluster, key = run.hardware, run.cluster, "cluster.nodes_per_replica"
    if hardware.engine and not hardware.engine.multi_node:
        yield f"{hardware.engine.name} cannot share a replica between machines: set {key}=1"
    if cluster.here or cluster.nodes % cluster.nodes_per_replica:
        yield f"{key}={cluster.nodes_per_replica} needs cluster=ray with a multiple of as many machines (cluster.nodes)"
    if hardware.replicas != 1:
        yield f"hardware.replicas={hardware.replicas}: a machine has one replica if machines share it: set 1"


def _check_host(run: Run) -> Problems:
    """A server that other machines can reach needs a key, and nginx in front."""
    hardware, engine = run.hardware, run.hardware.engine
    if ":" in str(hardware.host):
        yield f"hardware.host={hardware.host}: IPv6 is not supported: set an IPv4 address or a host name"
    elif engine is None or (hardware.host in LOOPBACK and run.cluster.here):
        return
    elif not run.cluster.here and hardware.urls is None and engine.key_env:
        if not run.model.api_key_env and run.cluster.auth == "token":
            yield (
                f"cluster={run.cluster.name}: the replicas answer anyone who can reach the machines: set "
                "model.api_key_env=VARIABLE, the environment variable here with a key of your choice, which requests "
                "must send (or accept that with cluster.auth=none)"
            )
    elif engine.key_env and engine.keeps_to_media:
        problem = f"hardware.host={hardware.host} lets anyone who can reach this machine send requests"
        if not run.model.api_key_env:
            yield f"{problem}: set model.api_key_env=VARIABLE, the environment variable with the key they must send"
        if hardware.balancer != "nginx":
            yield f"{problem} to paths that need no key: set hardware.balancer=nginx, which blocks those paths"
    elif engine.host_option:
        reason = (
            "reads any file or URL that a request names"
            if engine.key_env
            else "takes a key only on its command line, where every user of the machine can see it"
        )
        yield f"{engine.name} {reason}: keep hardware.host=127.0.0.1"


def _check_engine_lengths(args: Mapping[str, Any], images: int) -> Problems:
    """A TensorRT engine is built for a fixed number of tokens."""
    key = "hardware.engine.args"
    needed = args["max_batch_size"] * images * CHAT_TOKENS
    if args["max_multimodal_len"] < needed:
        yield (
            f"{key}.max_multimodal_len={args['max_multimodal_len']} is less than max_batch_size x "
            f"model.images_per_prompt x {CHAT_TOKENS} = {needed}"
        )
    if images * CHAT_TOKENS >= args["max_input_len"]:
        yield (
            f"model.images_per_prompt={images} takes {images * CHAT_TOKENS} tokens, so {key}.max_input_len="
            f"{args['max_input_len']} leaves no room for a question: set fewer images, or a longer input"
        )
    if args["max_input_len"] >= args["max_seq_len"]:
        yield f"{key}.max_seq_len={args['max_seq_len']} leaves no room for an answer: set more than {key}.max_input_len"
    if args["max_num_tokens"] < args["max_input_len"]:
        yield (
            f"{key}.max_num_tokens={args['max_num_tokens']} is less than {key}.max_input_len={args['max_input_len']}"
        )
