# Thin wrappers: everything here also works as plain pip and pytest commands (README.md).
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
INTEROP ?= .venv-interop
export OMP_NUM_THREADS ?= 1

.PHONY: help install install-torch demo test test-all test-interop lint conformance conformance-models mutations bench bench-sanafe results transformers settle comparison validation published published-mesh scaling exactness train-mnist wheel-test clean

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

$(INTEROP)/.interop: pyproject.toml
	$(PYTHON) -m venv $(INTEROP)
	$(INTEROP)/bin/pip install --quiet torch==2.13.0
	$(INTEROP)/bin/pip install --quiet -e '.[test,interop]'
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

test-interop: $(INTEROP)/.interop  ## models of spikingjelly, snnTorch, sinabs, norse, in an environment of its own
	NEUROSIM_INTEROP=1 $(INTEROP)/bin/pytest tests/interop

conformance: install  ## both engines over 10,000 drawn cases
	NEUROSIM_EXAMPLES=10000 $(BIN)/pytest tests/conformance

conformance-models: install-torch  ## both engines row for row on a whole image of every network, in every discipline
	$(BIN)/python -m tests.bench.conformance_models

mutations: install  ## defects put into the fast engine, each of which the drawn cases must notice (docs/conformance.md)
	$(BIN)/python -m tests.conformance.mutations

bench: install  ## speed of the fast engine beside bare loops, packet-hops, linearity, start-up (docs/performance.md)
	$(BIN)/python -m tests.bench.ratios

bench-sanafe: install  ## beside SANA-FE 2.2.9, in an environment of its own: make bench-sanafe SANAFE_PYTHON=venv/bin/python
	$(BIN)/python -m tests.bench.sanafe $(if $(SANAFE_PYTHON),--peer $(SANAFE_PYTHON))

results: install  ## accuracy, latency, energy, speed of the shipped networks (docs/results.md): make results MNIST=mnist_full.npz
	$(BIN)/python -m tests.bench.results $(if $(MNIST),--mnist $(MNIST))

transformers: install  ## the shipped spiking transformers side by side (docs/transformers.md): make transformers MNIST=mnist_full.npz
	$(BIN)/python -m tests.bench.transformers $(if $(MNIST),--mnist $(MNIST))

settle: install  ## settle beside the other disciplines: exactness, cost, a moving digit (docs/settle.md)
	$(BIN)/python -m tests.bench.settle

comparison: install  ## the chips beside GPUs (docs/comparison.md): make comparison DATA=../shared/data RUNS=folder
	$(BIN)/python -m tests.bench.comparison $(if $(DATA),--data $(DATA)) $(if $(RUNS),--keep $(RUNS))

validation: install  ## published measurements beside the presets (docs/validation.md): make validation DATA=../shared/data for all rows
	$(BIN)/python -m tests.validation.cases $(if $(DATA),--data $(DATA))

scaling: install  ## how compile time, memory and run time grow (docs/scaling.md)
	$(BIN)/python -m tests.bench.scaling

published: install-torch  ## networks of the papers' sizes, from module to spikes on the ideal chip (docs/scaling.md)
	$(BIN)/python -m tests.bench.published

published-mesh: install-torch  ## the same at 8 bits on a mesh of 1,024 small cores, against the integer golden model (docs/scaling.md)
	$(BIN)/python -m tests.bench.published_mesh

exactness: install-torch  ## spikes on the ideal chip against PyTorch in float64 (docs/results.md)
	$(BIN)/python -m tests.bench.exactness

wheel-test: install  ## build the wheel, install it alone, run the demo in an empty folder
	$(BIN)/pytest tests/test_wheel.py -m slow

train-mnist: install-torch  ## retrain both shipped models: make train-mnist MNIST=mnist_full.npz
	$(BIN)/python -m models.train_mnist $(if $(MNIST),--mnist $(MNIST))

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .hypothesis
