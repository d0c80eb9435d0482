# Thin wrappers: everything here also works as plain pip and pytest commands (README.md).
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= 1

.PHONY: help install install-torch demo test test-all lint conformance bench results exactness train-mnist wheel-test clean

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

$(BIN)/.test: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -e '.[test,report]'
	touch $@

$(BIN)/.torch: $(BIN)/.test
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet 'mlxtend>=0.23'
	touch $@

install: $(BIN)/.test  ## set up .venv with everything that tests and demo need

install-torch: $(BIN)/.torch  ## the same, with PyTorch for training and torch tests

demo: install  ## the main job on real digits, end to end
	$(BIN)/neurosim demo

lint: install  ## ruff, mypy, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: install  ## the suite without torch, under five minutes
	$(BIN)/pytest -m "not torch and not slow"

test-all: install-torch  ## everything, with torch and the long suites
	$(BIN)/pytest

conformance: install  ## both engines over 10,000 drawn cases
	NEUROSIM_EXAMPLES=10000 $(BIN)/pytest tests/conformance

bench: install  ## speed of the fast engine (docs/results.md)
	$(BIN)/python -m tests.bench.bench_fast

results: install  ## accuracy, latency, energy, speed of the shipped networks (docs/results.md): make results MNIST=mnist_full.npz
	$(BIN)/python -m tests.bench.results $(if $(MNIST),--mnist $(MNIST))

exactness: install-torch  ## spikes on the ideal chip against PyTorch in float64 (docs/results.md)
	$(BIN)/python -m tests.bench.exactness

wheel-test: install  ## build the wheel, install it alone, run the demo in an empty folder
	$(BIN)/pytest tests/test_wheel.py -m slow

train-mnist: install-torch  ## retrain both shipped models: make train-mnist MNIST=mnist_full.npz
	$(BIN)/python -m models.train_mnist $(if $(MNIST),--mnist $(MNIST))

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .hypothesis
