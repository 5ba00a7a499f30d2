# Needs only python3 (3.11 or newer) and make. Everything is installed into .venv, at the exact versions and hashes of
# requirements.lock. ARGS go to the command behind a target: make test ARGS="-k layout"

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
QUIET  := -qq --disable-pip-version-check --no-input
PIP    := $(BIN)/python -m pip $(QUIET)
UV     := build/uv/bin/uv
PROXY  := build/envs/proxy

# On two cores, without what takes half a minute by itself.
PYTEST := -m pytest -n 2 --dist worksteal -m "not slow"

# What leans on LiteLLM, and the versions of it, and of Python, that it is tried on.
LEANING  := tests/backend tests/router/test_streams.py tests/test_callback.py tests/dspy
VERSIONS := lowest locked newest
PYTHONS  := 3.11 3.12 3.13

# Whom `make bench-peers` measures, and what they are installed as.
PEERS := langchain=langchain-openai pydantic_ai=pydantic-ai-slim[openai] any_llm=any-llm-sdk[openai]

.PHONY: help demo test quick slow proxy lint newest pythons bench bench-peers soak workload lock lock-proxy clean

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 20

demo: $(VENV)/installed  ## real answers of a small model on this machine; no account, no key
	@$(BIN)/modelrouter demo $(ARGS)

test: $(VENV)/installed  ## run the tests, on two cores
	@$(BIN)/python $(PYTEST) $(ARGS)

quick: $(VENV)/installed  ## run the tests that need no process and no LiteLLM
	@$(BIN)/python -m pytest -m "not heavy" $(ARGS)

slow: $(VENV)/installed $(PROXY)/locked  ## run the tests that `make test` leaves out for time
	@$(BIN)/python -m pytest -m slow $(ARGS)

proxy: $(PROXY)/locked  ## install LiteLLM's proxy for the tests, in an environment of its own

lint: $(VENV)/installed  ## check style and types
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/basedpyright

newest: $(UV)  ## run what leans on LiteLLM on its lowest, its locked and its newest version; VERSIONS=newest for one
	@set -e; for version in $(VERSIONS); do \
	    env=build/envs/litellm-$$version; override=build/envs/override; rm -rf $$env; mkdir -p build/envs; \
	    $(PYTHON) -m venv $$env; \
	    case $$version in \
	    locked) $(UV) pip install -q --python $$env/bin/python --no-deps --require-hashes -r requirements.lock;; \
	    lowest) sed -nE 's/^ *"(litellm)>=([0-9.]+),.*/\1==\2/p' pyproject.toml >$$override;; \
	    newest) echo litellm >$$override;; \
	    *) echo "no such version: $$version; there are lowest, locked and newest" >&2; exit 2;; \
	    esac; \
	    if [ $$version = locked ]; then \
	        $(UV) pip install -q --python $$env/bin/python --no-deps --no-build-isolation --editable .; \
	    else \
	        $(UV) pip install -q --python $$env/bin/python --override $$override --group dev --group build \
	            --group weights --editable '.[local]'; \
	    fi; \
	    echo "$$version: $$($$env/bin/python -c 'from importlib.metadata import version as v; \
	        print("litellm", v("litellm"), "on openai", v("openai"))')"; \
	    $$env/bin/python $(PYTEST) -q $(LEANING) $(ARGS); \
	done

pythons: $(UV)  ## run the tests on each Python of PYTHONS that is there
	@set -e; for version in $(PYTHONS); do \
	    env=build/envs/python-$$version; found=; \
	    for python in python$$version "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$$version.*/bin/python; do \
	        if [ -z "$$found" ] && $$python -c pass 2>/dev/null; then found=$$python; fi; \
	    done; \
	    if [ -z "$$found" ]; then echo "Python $$version is not here: left out"; continue; fi; \
	    rm -rf $$env; $$found -m venv $$env; \
	    $(UV) pip install -q --python $$env/bin/python --no-deps --require-hashes -r requirements.lock; \
	    $(UV) pip install -q --python $$env/bin/python --no-deps --no-build-isolation --editable .; \
	    $$env/bin/python --version; \
	    $$env/bin/python $(PYTEST) -q $(ARGS); \
	done

bench: $(VENV)/installed  ## measure what the layer adds
	@$(BIN)/python -m tests.bench $(ARGS)

bench-peers: $(VENV)/installed $(UV)  ## the same call by LangChain, Pydantic AI and any-llm
	@set -e; pythons=; for peer in $(PEERS); do \
	    name=$${peer%%=*}; env=build/envs/peer-$$name; \
	    if [ ! -e $$env/made ]; then \
	        $(PYTHON) -m venv --clear $$env; \
	        $(UV) pip install -q --python $$env/bin/python "$${peer#*=}"; touch $$env/made; \
	    fi; \
	    pythons="$$pythons $$name=$$env/bin/python"; \
	done; \
	$(BIN)/python -m tests.bench.peers $$pythons

soak: $(VENV)/installed  ## many calls for a long time: leaks, stuck threads, lost counts
	@$(BIN)/python -m tests.soak $(ARGS)

workload: $(VENV)/installed  ## what remembering answers saves, by the kind of traffic
	@$(BIN)/python -m tests.bench.workload $(ARGS)

lock: $(UV)  ## write requirements.lock anew from pyproject.toml; ARGS=--upgrade for newer versions
	@echo "Resolving pyproject.toml into requirements.lock"
	@$(UV) pip compile pyproject.toml --quiet --python build/uv/bin/python --output-file requirements.lock \
	    --extra local --group dev --group build --group weights --universal --python-version 3.11 --only-binary :all: \
	    --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(ARGS)

lock-proxy: $(UV)  ## write tests/servers/proxy.lock anew from proxy.in beside it
	@echo "Resolving tests/servers/proxy.in into proxy.lock"
	@$(UV) pip compile tests/servers/proxy.in --quiet --python build/uv/bin/python \
	    --output-file tests/servers/proxy.lock --universal --python-version 3.11 --only-binary :all: \
	    --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock-proxy" $(ARGS)

clean:  ## remove everything that was made here
	rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(UV):
	@$(PYTHON) -m venv build/uv
	@build/uv/bin/python -m pip $(QUIET) install uv==0.13.9

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

$(PROXY)/locked: tests/servers/proxy.lock
	@echo "Installing LiteLLM's proxy into $(PROXY) (a minute or two, once)"
	@$(PYTHON) -m venv --clear $(PROXY)
	@$(PROXY)/bin/python -m pip $(QUIET) install --no-deps --only-binary :all: --require-hashes -r $<
	@touch $@
