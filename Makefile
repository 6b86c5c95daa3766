# Everything runs in .venv, which the first target that needs it makes from PYTHON and constraints.txt.

PYTHON ?= python3.11
# Processes that share a test run.
WORKERS ?= 2
# The distribution that brings TensorFlow. Where there is no tensorflow-cpu, say TENSORFLOW=tensorflow.
TENSORFLOW ?= tensorflow-cpu
# What `make test` leaves out; `make test-full` leaves out nothing.
SELECT ?= not slow
# What `make bench` times: layers, or networks.
BENCH ?= layers
# More arguments for pytest and for the benchmarks.
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
PYTEST := $(BIN)/python -m pytest
PARALLEL := -n $(WORKERS) --dist worksteal
BACKENDS := tensorflow jax torch
SOURCES := $(wildcard kerasnorm search benchmarks examples)

LOWEST_KERAS := $(shell sed -n 's/^dependencies = \["keras>=\([0-9.]*\)"\]$$/\1/p' pyproject.toml)
LOWEST_KERAS_DIR := $(VENV)/lowest-keras/$(LOWEST_KERAS)

# A user's own keras.json must not decide what is tested.
export KERAS_HOME := $(CURDIR)/$(VENV)/keras-home
export TF_CPP_MIN_LOG_LEVEL ?= 3
# What JAX has compiled once serves all processes and later runs; compiling is most of its time.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/$(VENV)/jax-cache
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0
export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES ?= -1

.DEFAULT_GOAL := help
# Timings and memory suffer when two large test runs share the machine.
ifndef SMALL_RUNS
.NOTPARALLEL:
endif
.DELETE_ON_ERROR:

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z0-9 -]*:.*## / {printf "  %-37s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: venv
venv: $(VENV)/.installed ## make .venv, or bring it up to date

# torch comes first and alone, so that the build chosen here (of the CPU, where pip is given one)
# is the one that everything after it finds installed.
$(VENV)/.base: constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "No $(PYTHON) here: say PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@echo "Installing three backends and the tools, about 4 GB."
	$(PIP) install -c constraints.txt torch
	$(PIP) install --quiet -c constraints.txt hatchling editables
	@touch $@

# KerasHub by itself: with tensorflow-text it asks for `tensorflow` where `tensorflow-cpu` is. What it
# does need is in the extra "test".
$(VENV)/.installed: $(VENV)/.base pyproject.toml
	$(PIP) install -c constraints.txt $(TENSORFLOW) --no-build-isolation -e '.[jax,torch,test]'
	$(PIP) install --quiet -c constraints.txt --no-deps keras-hub
	@touch $@

.PHONY: test
test: lint test-once $(BACKENDS:%=test-%) test-small ## what CI runs

.PHONY: test-full
test-full: ## the same with the tests marked slow
	$(MAKE) test SELECT=

# torch starts fastest.
.PHONY: quick
quick: lint types ## the loop of daily work: lint, types, constructors and the smoke tests on torch
	KERAS_BACKEND=torch $(PYTEST) tests --ignore=tests/once $(PARALLEL) -m 'smoke and not slow' $(ARGS)
	KERAS_BACKEND=torch $(PYTEST) tests/once/test_signatures.py $(ARGS)

.PHONY: lint
lint: venv ## check formatting and style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

.PHONY: format
format: venv ## format, and repair what can be repaired
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: readme
readme: venv ## write what is made of other files: pages of norms, the README's table, notebooks
	$(BIN)/python -m docs.norm_pages
	$(BIN)/python -m docs.notebooks

# Open build/site/index.html: it needs no server.
SPHINX = KERAS_BACKEND=torch $(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet \
	--doctree-dir build/doctrees

# Its tests build it too.
.PHONY: docs
docs: venv ## build the site into build/site; warnings are errors
	$(SPHINX) --builder html docs build/site

.PHONY: docs-links
docs-links: venv ## check the links of the site that lead elsewhere
	$(SPHINX) --builder linkcheck docs build/links

.PHONY: types
types: venv ## check types
	$(BIN)/mypy $(SOURCES)

# They have no backend of their own: torch starts fastest, and has nothing to compile. Many wait for
# other processes or for time to pass, so there is one worker more.
.PHONY: test-once
test-once: venv ## tests of the package and across backends
	KERAS_BACKEND=torch $(PYTEST) tests/once -n $$(($(WORKERS) + 1)) --dist worksteal -m '$(SELECT)' $(ARGS)

.PHONY: $(BACKENDS:%=test-%)
test-tensorflow test-jax test-torch: ## the other tests, on one backend
$(BACKENDS:%=test-%): test-%: venv
	KERAS_BACKEND=$* $(PYTEST) tests --ignore=tests/once $(PARALLEL) -m '$(SELECT)' $(ARGS)

.PHONY: test-jax-x64
test-jax-x64: venv ## the float64 tests on JAX with 64 bits switched on
	KERAS_BACKEND=jax JAX_ENABLE_X64=1 $(PYTEST) tests --ignore=tests/once $(PARALLEL) \
		-m 'float64$(if $(SELECT), and ($(SELECT)))' $(ARGS)

# One backend every day, all where nothing is left out.
.PHONY: doctest $(BACKENDS:%=doctest-%)
doctest: $(if $(SELECT),doctest-torch,$(BACKENDS:%=doctest-%)) ## the examples in docstrings (SELECT=: on each backend)
$(BACKENDS:%=doctest-%): doctest-%: venv
	KERAS_BACKEND=$* $(PYTEST) kerasnorm $(if $(filter torch,$*),search) --doctest-modules $(PARALLEL) \
		--ignore=kerasnorm/core/backends $(ARGS)

.PHONY: test-lowest-keras $(BACKENDS:%=test-lowest-keras-%)
test-lowest-keras: $(BACKENDS:%=test-lowest-keras-%) ## a selection on the lowest supported Keras
$(BACKENDS:%=test-lowest-keras-%): test-lowest-keras-%: $(LOWEST_KERAS_DIR)
	KERAS_BACKEND=$* PYTHONPATH=$(CURDIR)/$(LOWEST_KERAS_DIR) EXPECT_KERAS=$(LOWEST_KERAS) \
		$(PYTEST) tests --ignore=tests/once $(PARALLEL) -m 'smoke$(if $(SELECT), and ($(SELECT)))' $(ARGS)

# Each of these has few tests, and most of its time goes into its start. So each gets one process, and
# WORKERS of them run at a time. Old versions of make (macOS has one) mix what they print.
WHOLE := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
.PHONY: test-small
test-small: venv $(LOWEST_KERAS_DIR) ## types, test-jax-x64, doctest and test-lowest-keras, side by side
	$(MAKE) --no-print-directory --jobs=$(WORKERS) $(WHOLE) --keep-going SMALL_RUNS=yes WORKERS=1 \
		$(BACKENDS:%=test-lowest-keras-%) test-jax-x64 doctest types

# Without dependencies: TensorFlow asks pip for a newer Keras than it needs.
$(LOWEST_KERAS_DIR): $(VENV)/.base | venv
	rm -rf $@ $@.part
	$(PIP) install --quiet --no-deps --target $@.part keras==$(LOWEST_KERAS)
	mv $@.part $@
	@touch $@

.PHONY: mutations
mutations: venv ## break the code in 30 random ways; say which the tests notice (ARGS='--count 9')
	KERAS_BACKEND=torch $(BIN)/python tests/mutations.py $(ARGS)

.PHONY: bench
bench: venv ## time layers, or BENCH=networks, on each backend (KERAS_BACKEND=... for one)
	for backend in $(or $(KERAS_BACKEND),$(BACKENDS)); do \
		KERAS_BACKEND=$$backend $(BIN)/python -m benchmarks $(BENCH) $(ARGS) || exit 1; \
	done

# With the python that is asked for, else that of .venv if there is one: it needs nothing else, and
# a machine with a GPU has builds of its own.
GPU_PYTHON = $(if $(filter file,$(origin PYTHON)),$(firstword $(wildcard $(BIN)/python) $(PYTHON)),$(PYTHON))

.PHONY: gpu-check
gpu-check: ## test and measure JAX and torch on a GPU, in 8 minutes (PYTHON=..., ARGS=...)
	$(GPU_PYTHON) -m benchmarks gpu $(ARGS)

# The work of a search and of its answer, small: between 5 and 6 minutes on two cores.
SEARCH := --arch resnet8 --width 8 --data digits --trials 14 --epochs 8 --batch-size 128 --learning-rate 0.003 \
	--seeds 5 --candidates 2 --ablation 1 --no-jit
OUT ?= search-results

# One backend is enough for it: where there is no .venv, it gets a smaller one.
SEARCH_VENV := $(if $(wildcard $(VENV)/.installed),$(VENV),.venv-search)

.venv-search/.installed: constraints.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "No $(PYTHON) here: say PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Installing TensorFlow and what the search needs, about 2 GB."
	$(PYTHON) -m venv --clear .venv-search
	.venv-search/bin/python -m pip install -c constraints.txt $(TENSORFLOW) -e '.[search]'
	@touch $@

.PHONY: search
search: $(SEARCH_VENV)/.installed ## search the norms of a small ResNet on digits (OUT=folder, ARGS=...)
	KERAS_HOME=$(CURDIR)/$(SEARCH_VENV)/keras-home $(SEARCH_VENV)/bin/python -m search \
		--backend tensorflow $(SEARCH) --out $(OUT) $(ARGS)

.PHONY: dist
dist: ## build the wheel and the sdist into dist/, and try each in a clean environment
	$(PYTHON) tests/distributions.py --out dist $(ARGS)

.PHONY: walk
walk: ## walk the way of a newcomer on each backend, and time it (KERAS_BACKEND=... for one)
	$(PYTHON) tests/walk.py $(KERAS_BACKEND) $(ARGS)

.PHONY: clean
clean: ## remove .venv, caches and build results
	rm -rf $(VENV) .venv-search build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
