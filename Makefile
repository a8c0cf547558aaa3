# Everything that is made here lies in this folder: the environment in .venv, the demo in demo/.
#
#   make test PYTHON=python3.12     another Python (3.10 to 3.12 have an ONNX Runtime that trains)
#   make test TORCH=torch-cpu.whl   another torch for the parity tests

VENV := .venv
BIN := $(VENV)/bin
MNX := $(BIN)/mnx
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal
PYTHON ?= $(shell python3.11 -c 'print("python3.11")' 2>/dev/null || echo python3)

# On Linux this version from the public index brings CUDA libraries, some gigabytes. The tests need none of them: TORCH
# may be the path of a CPU wheel, or pip's arguments for one.
TORCH ?= torch==2.13.0

.DEFAULT_GOAL := help
.PHONY: help install check test coverage exhaustive demo bench clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

install: $(VENV)/.installed ## install the command mnx into .venv, nothing outside this folder

check: $(VENV)/.dev ## lint, formatting, types, layers and the quick tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p mnx
	$(BIN)/lint-imports
	$(PYTEST) -m "not slow" -q

test: $(VENV)/.torch ## the quick and the slow tests, also those against torch
	$(PYTEST) -m "not exhaustive" -q

coverage: $(VENV)/.torch ## the same, with the lines and branches that no test reaches
	$(PYTEST) -m "not exhaustive" -q --cov --cov-report=term-missing:skip-covered

exhaustive: $(VENV)/.torch ## every test there is: also each family of networks by each exporter, and properties at length
	$(PYTEST) -q

demo: $(VENV)/.installed ## train a small VGG ensemble on handwritten digits, against independent training
	$(MNX) zoo v5-bn --output demo/members --force
	$(MNX) run demo/members/*.onnx --data digits --run demo/run --mothers 1 --compare independent

bench: $(VENV)/.torch ## run the scripts in benchmarks/, one after the other
	@set -e; for script in $(sort $(wildcard benchmarks/*.py)); do \
		echo "$(BIN)/python $$script"; $(BIN)/python "$$script"; \
	done

clean: ## remove all that was made here: .venv, demo/, caches, build leftovers
	rm -rf $(VENV) demo build dist *.egg-info .coverage
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: what was installed, redone when pyproject.toml changes.

$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.installed: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[cpu,images]'
	touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

$(VENV)/.torch: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet 'onnxscript>=0.2'
	touch $@
