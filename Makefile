# The commands of the project. `make help` lists them; each makes .venv first, and a second time installs nothing.
#   PYTHON=python3.12      the Python to make .venv of (else the newest of 3.13, 3.12, 3.11 that runs)
#   DEVICE=cpu|cuda        the build of vLLM (else cuda where nvidia-smi lists a GPU)
#   TORCH_INDEX=URL        where torch's CPU wheel comes from when pip, as configured, does not find it
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

SHELL := /bin/sh
BIN := .venv/bin
export PYTHON
SETUP = deploy/setup/choose-python --torch-index "$(TORCH_INDEX)" $(if $(DEVICE),--device "$(DEVICE)")

.DEFAULT_GOAL := help
.PHONY: help serve serve-ray test prove bench bench-retrieval bench-shared check fmt setup install lock clean

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 \t\2/p' $(MAKEFILE_LIST) | expand -t 16

serve: ## set everything up and serve the demo on 127.0.0.1:8000
	@$(SETUP) --port "$${MANYHATS_PORT:-8000}"
	@exec $(BIN)/manyhats serve $(ARGS)

serve-ray: ## serve replicas on Ray, on this machine or on the cluster of RAY_ADDRESS (CONFIG=FILE)
	@$(SETUP) --port "$${MANYHATS_PORT:-8000}"
	@$(BIN)/python -m pip install --quiet --no-deps --no-input --disable-pip-version-check -r deploy/setup/ray.txt
	@exec $(BIN)/python -m deploy.ray $(if $(CONFIG),--config "$(CONFIG)") $(ARGS)

test: ## set everything up and run the tests (ARGS=tests/server for some of them)
	@$(SETUP) --dev
	@exec $(BIN)/python -m pytest -m "not prove" $(ARGS)

prove: ## the long proofs: kill loops and the like
	@$(SETUP) --dev
	@exec $(BIN)/python -m pytest -m prove $(ARGS)

bench: ## measure this server beside stock vLLM on this machine
	@$(SETUP) --dev
	@exec $(BIN)/python -m bench $(ARGS)

bench-retrieval: ## search quality, ingestion and latency (DATA=DIR with the corpora)
	@$(SETUP) --dev
	@exec $(BIN)/python -m bench.retrieval --data "$(DATA)" $(ARGS)

bench-shared: ## PostgreSQL and S3 beside SQLite and local files
	@$(SETUP) --dev
	@exec $(BIN)/python -m bench.shared $(ARGS)

check: ## lint, format and types
	@$(SETUP) --dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fmt: ## put the code into the format that `make check` wants
	@$(SETUP) --dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: ## only set up, with what tests need
	@$(SETUP) --dev

install: ## only set up, with what serving needs
	@$(SETUP)

lock: ## renew the pins (UPGRADE=1 takes the newest versions)
	@$(SETUP) --dev
	$(BIN)/python -m deploy.setup.lock --torch-index "$(TORCH_INDEX)" $(if $(UPGRADE),--upgrade)

clean: ## remove what the commands above made; the data directory stays
	rm -rf .venv .make build *.egg-info .mypy_cache .ruff_cache .pytest_cache
