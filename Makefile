# Every target sets up what it needs: `make demo` on a fresh machine is enough.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# What the demo needs is a part of what tests need, so a machine that only tries it waits less.
DEMO   := $(VENV)/.installed-demo
STAMP  := $(VENV)/.installed
PIP    := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test property kills chaos soak test-long lint bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(DEMO): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[worker,demo]'
	@touch $@

$(STAMP): $(DEMO)
	$(PIP) --editable '.[worker,gpu,upscaling,demo,dev]'
	@touch $@

demo: $(DEMO) ## set everything up and make a travelling video from four keyframes
	$(BIN)/python examples/demo.py

test: $(STAMP) ## set up and pass every test
	$(BIN)/python -m pytest --numprocesses 2

test-long: $(STAMP) ## ten times as many inputs for every type's parameters, and hundreds of tasks for one engine process
	UNITASK_TEST_EXAMPLES=20000 $(BIN)/python -m pytest tests/unit/types/test_any_input.py
	UNITASK_TEST_LONG=1 $(BIN)/python -m pytest -rP tests/integration/test_models.py

property: $(STAMP) ## the life of tasks against a model, 5,000 sequences, 10,000 lives of a purse, the claim in a table of a million (an hour)
	UNITASK_TEST_SEQUENCES=5000 $(BIN)/python -m pytest -rP --numprocesses 2 --dist=load tests/integration/test_lifecycle_model.py
	UNITASK_TEST_LIVES=10000 $(BIN)/python -m pytest -rP tests/integration/billing/test_lifecycles.py
	UNITASK_TEST_LONG=1 $(BIN)/python -m pytest -s tests/integration/test_plans.py

kills: $(STAMP) ## SIGKILL at every point of the flows and a hundred times of a watcher, and a minute without Prefect's API (ten minutes)
	UNITASK_TEST_LONG=1 $(BIN)/python -m pytest -rP tests/integration/test_watch.py -k killed
	UNITASK_TEST_LONG=1 UNITASK_TEST_AWAY_SECONDS=60 $(BIN)/python -m pytest tests/flows/test_crash_points.py tests/flows/test_prefect_away.py tests/acceptance/test_outage.py

chaos: $(STAMP) ## ten minutes of mixed work on a whole platform while processes are killed, servers restart and people click in Prefect; SEED=n repeats a run
	$(BIN)/python -m tests.chaos --seconds 600 $(if $(SEED),--seed $(SEED))

soak: $(STAMP) ## ten minutes of 5,000 tasks at a provider that misbehaves, in one worker; SEED=n repeats its faults
	$(BIN)/python -m tests.soak --tasks 5000 --seconds 600 $(if $(SEED),--seed $(SEED))

lint: $(STAMP) ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP) ## measure, with the peers in the same run
	$(BIN)/python -m tests.benchmarks

clean: ## remove what the targets made in this folder
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache out
