# The project's commands; `make` alone lists them. Needs GNU make, git and Python 3.10 to 3.13.
# PYTHON=python3.12 chooses the interpreter of a new .venv, ARGS="…" adds arguments to test, book and bench.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
PINS := requirements/book.txt
ARGS ?=
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input

export MPLBACKEND := Agg

.PHONY: help setup test check lint format book site classroom bench sync lock clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv with the pinned packages and aia_lib in it; nothing to do when it is up to date

$(STAMP): pyproject.toml $(PINS)
	@if ! $(BIN)/python -c 'import pip' >/dev/null 2>&1; then \
	    python=''; \
	    for candidate in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.10 python); do \
	        if $$candidate -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; then \
	            python=$$candidate; break; \
	        fi; \
	    done; \
	    if [ -z "$$python" ]; then \
	        echo 'make: found no Python 3.10 to 3.13$(if $(PYTHON), as $(PYTHON)); install one or name it: make setup PYTHON=/path/to/python3.12' >&2; exit 1; \
	    fi; \
	    if ! $$python -c 'import ensurepip, venv' >/dev/null 2>&1; then \
	        echo "make: $$python cannot create virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; \
	    fi; \
	    echo "Creating $(VENV) with $$($$python --version)"; \
	    $$python -m venv --clear $(VENV); \
	fi
	@echo 'Installing $(PINS) (a few minutes and about 6 GB the first time)'
	@$(PIP) install -qq --requirement $(PINS)
	@$(PIP) install -qq --no-deps --no-build-isolation --editable .
	@touch $@
	@echo 'Ready: $(BIN)/aia --help'

# One thread a worker: two threads wait for each other after every operation of networks this small, two workers wait for nobody.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --dist loadscope --no-loadscope-reorder

test: setup lint ## check the style and run all tests, on all cores (ARGS="-k faces" chooses)
	@$(PYTEST) $(ARGS)

check: setup lint ## check the style and run the quick tests: two minutes
	@$(PYTEST) -m "not slow" $(ARGS)

lint: setup ## check the style, and that imports go down only
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/lint-imports --no-cache > /dev/null || $(BIN)/lint-imports --no-cache

format: setup ## put the style right
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

book: setup ## execute every chapter on the embedded faces, check its figures and build the book; goes on where it stopped
	@$(BIN)/python tools/chapters.py run --jobs 2 $(ARGS)
	@$(BIN)/python tools/chapters.py site
	@echo "The book: file://$(CURDIR)/_build/html/index.html"

site: setup ## build the book from the committed outputs, into _build/html
	@$(BIN)/jupyter-book build -W -n --keep-going -q .
	@echo "The book: file://$(CURDIR)/_build/html/index.html"

classroom: setup ## write a student version (no solutions) and an instructor version of every chapter into _build/classroom
	@$(BIN)/python tools/classroom.py $(ARGS)

bench: setup ## measure speed, memory and growth (ARGS="training" chooses one, "--out FOLDER" records all)
	@$(BIN)/python -m benchmarks $(ARGS)

sync: setup ## write the repository's address, the quoted numbers, tables and pictures where they are shown
	@$(BIN)/python tools/sync.py
	@$(BIN)/python tools/results_page.py

lock: ## renew the exact versions in requirements/
	@folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	$(or $(PYTHON),python3) -m venv "$$folder"; \
	"$$folder/bin/python" -m pip --disable-pip-version-check install --quiet uv; \
	"$$folder/bin/uv" pip compile --quiet --universal --python-version 3.10 --no-python-downloads --upgrade --no-annotate \
	    --custom-compile-command 'make lock' --extra dev --extra book --extra render --extra scale --output-file $(PINS) pyproject.toml

clean: ## remove what was built; keeps .venv and runs/
	@rm -rf build dist _build .pytest_cache .ruff_cache .hypothesis
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
