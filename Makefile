# `make quickstart` and `make test` are all one needs; both work on an empty machine with Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= runs/quickstart
SEED ?= 0
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

.PHONY: help quickstart quickstart-video test check bench study clean

help:  ## show what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' Makefile

quickstart: $(VENV)/core.stamp  ## build, align and measure a small model from nothing; OUT=runs/quickstart SEED=0
	$(BIN)/triptych quickstart --out "$(OUT)" --seed $(SEED)

quickstart-video: OUT := runs/quickstart-video
quickstart-video: $(VENV)/core.stamp  ## the same of videos, aligned with AI feedback; OUT=runs/quickstart-video SEED=0
	$(BIN)/triptych quickstart --panel video --out "$(OUT)" --seed $(SEED)

test: $(VENV)/dev.stamp  ## run the tests that take seconds
	$(BIN)/python -m pytest -m "not slow"

check: $(VENV)/dev.stamp  ## lint, formatting, and that every test can be collected
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m pytest --collect-only --quiet --quiet

bench: $(VENV)/dev.stamp  ## compare speed with peers, side by side
	$(BIN)/python -m benchmarks.preference --peer trl
	$(BIN)/python -m benchmarks.sampling --peer transformers
	$(BIN)/python -m benchmarks.ppo --peer plain
	$(BIN)/python -m benchmarks.ppo --peer trl-grpo

study: $(VENV)/dev.stamp  ## repeat both quickstarts over 5 seeds, then run the slow tests
	$(BIN)/triptych study quickstart --seeds 5 --out runs/study
	$(BIN)/triptych study quickstart-video --seeds 5 --out runs/study-video
	$(BIN)/triptych study preference_data --seeds 5 --base runs/study-video --out runs/study-preference_data
	$(BIN)/triptych study curriculum --seeds 5 --base runs/study-video --out runs/study-curriculum
	$(BIN)/triptych study video_controls --seeds 5 --base runs/study-video --out runs/study-video_controls
	$(BIN)/python -m pytest -m slow

clean:  ## remove the virtual environment and what the tools left; runs stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build dist

# Made once, and again when the dependencies change.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/core.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) .
	touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) '.[dev]'
	touch $(VENV)/core.stamp $@
