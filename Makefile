# Everything runs in the virtual environment .venv, which `make setup` (and every other target) creates.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# What is installed. `dev,torch` also runs the tests with PyTorch, which is 0.2 GB without CUDA and several with it.
EXTRAS ?= dev

.PHONY: help setup demo test fuzz check bench

help:  ## what make can do
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name what; do printf 'make %-6s  %s\n' "$$name" "$$what"; done

setup: $(VENV)/.installed  ## create .venv and install everything

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

demo: setup  ## what a trained model holds; verify it, and an export of it
	$(BIN)/bninspect inspect sample_models/keras2_digits.h5
	$(BIN)/bninspect verify sample_models/keras2_digits.h5 --against sample_models/keras2_digits.tflite

test: setup  ## all tests
	$(BIN)/python -m pytest -n auto --dist loadfile

fuzz: setup  ## the tests of properties, with new examples each time
	$(BIN)/python -m pytest -n auto --dist loadfile -m hypothesis --hypothesis-profile fuzz

check: setup  ## lint, format, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup  ## what is measured against what: benchmarks/README.md
	$(BIN)/python benchmarks/starting.py
	$(BIN)/python benchmarks/reading.py
	$(BIN)/python benchmarks/verifying.py
