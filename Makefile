# `make demo` trains on real data, `make test` passes every test; each does its own set-up.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready

export OMP_NUM_THREADS ?= 2

.PHONY: help setup demo test test-all lint types docs bench sanitize clean

help:            ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,parity]'
	@touch $(READY)

setup: $(READY)  ## a virtual environment with everything that the tests need

demo: $(READY)   ## train a small net on real digits with four optimizers
	$(VENV)/bin/weft train

lint: $(READY)   ## style
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(READY)  ## types
	$(VENV)/bin/pyright

test: lint types ## style, types, doctests and every test that is not marked slow
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 -m "not slow" --doctest-modules src/weft tests

test-all: lint types ## the slow matrices too
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --doctest-modules src/weft tests

clean:           ## remove what set-up and runs have made
	rm -rf $(VENV) out .pytest_cache .ruff_cache .hypothesis
