# Needs only python3 (3.11 or newer) and make. Everything is installed into .venv, at the exact versions and hashes of
# requirements.lock. ARGS go to the command behind a target: make test ARGS="-k layout"

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip -qq --disable-pip-version-check --no-input
UV     := uv==0.13.9

.PHONY: help demo test lint bench soak workload lock clean

help:  ## list the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 16

demo: $(VENV)/installed  ## real answers of a small model on this machine; no account, no key
	@$(BIN)/modelrouter demo $(ARGS)

test: $(VENV)/installed  ## run the tests
	@$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/installed  ## check style and types
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

bench: $(VENV)/installed  ## measure what the layer adds
	@$(BIN)/python -m tests.bench $(ARGS)

soak: $(VENV)/installed  ## many calls for a long time: leaks, stuck threads, lost counts
	@$(BIN)/python -m tests.soak $(ARGS)

workload: $(VENV)/installed  ## what remembering answers saves, by the kind of traffic
	@$(BIN)/python -m tests.bench.workload $(ARGS)

lock:  ## write requirements.lock anew from pyproject.toml; ARGS=--upgrade for newer versions
	@echo "Resolving pyproject.toml into requirements.lock"
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && $(PYTHON) -m venv "$$dir" && \
	"$$dir/bin/pip" -qq --disable-pip-version-check --no-input install $(UV) && \
	"$$dir/bin/uv" pip compile pyproject.toml --quiet --python "$$dir/bin/python" --output-file requirements.lock \
	    --extra local --group dev --group build --group weights --universal --python-version 3.11 --only-binary :all: \
	    --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(ARGS)

clean:  ## remove everything that was made here
	rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Two steps, so that an edit of pyproject.toml does not install a hundred packages again.
$(VENV)/locked: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "modelrouter needs Python 3.11 or newer," \
	    "and '$(PYTHON)' is not. Name one that is: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "'$(PYTHON)' cannot make virtual environments." \
	    "On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing the locked packages into $(VENV) (a minute or two, once)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install --no-deps --only-binary :all: --require-hashes -r requirements.lock
	@touch $@

$(VENV)/installed: $(VENV)/locked pyproject.toml
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@
