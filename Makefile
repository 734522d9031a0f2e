# Everything from a fresh checkout; needs Python 3.11 or newer, make and a network.
# Another interpreter: make PYTHON=python3.12 demo. Options for the program or pytest: make ARGS=... demo

PYTHON ?= python3
ARGS ?=
FUZZ_SEED ?= 0
UV := $(shell command -v uv || echo .uv/bin/uv)
RUN := .venv/bin/python
PYTEST := $(RUN) -m pytest -p tests.plugin_no_skips

CHECK_PYTHON = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
    echo "recjob needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1)." >&2; \
    echo "Name a newer one: make PYTHON=python3.12 demo" >&2; exit 1; }

.DEFAULT_GOAL := help
.PHONY: help install demo test system fuzz audit lint format docs lock clean

help: ## This list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'

install: .venv/.installed ## The environment in .venv

demo: .venv/.installed ## The whole way on a drawn catalog, to a page to open
	$(RUN) cli.py demo $(ARGS)

test: .venv/.installed ## The tests that take seconds
	$(PYTEST) -m "not slow and not gpu and not system" $(ARGS)

system: .venv/.installed ## The tests that run the whole program
	$(PYTEST) -m "system and not slow and not gpu" $(ARGS)

# Another seed tries other inputs: make FUZZ_SEED=7 fuzz. A fault is repeated by the same seed.
fuzz: .venv/.installed ## Mutated inputs: importers, settings, artifacts, 20,000 each
	FUZZ_SEED=$(FUZZ_SEED) $(PYTEST) tests/fuzz $(ARGS)

# Exit code 0 only where every package was looked up: a mirror without advisories is not enough.
audit: .venv/.installed ## Known faults of the locked dependencies, where the network allows it
	$(RUN) -m tests.audit

lint: .venv/.installed ## Format, lint and strict type checks
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy

format: .venv/.installed ## Format the code and repair what the linter can
	$(RUN) -m ruff check --fix-only .
	$(RUN) -m ruff format .

docs: .venv/.installed ## Write docs/settings.md and docs/cli.md from the code
	$(RUN) -m recjob.reference

# The lock names no index, so that a mirror may stand in for the public one.
# The second is the part of it that the container image holds: no tests, no figures of the paper.
lock: | $(UV) ## Choose the newest versions that fit pyproject.toml
	"$(UV)" pip compile pyproject.toml --group dev --extra tensorrt-rtx --extra ray --extra peers --extra paper \
	    --python-version 3.11 \
	    --universal --upgrade --generate-hashes --no-emit-index-url --no-header -q -o requirements.lock
	"$(UV)" pip compile pyproject.toml --extra tensorrt-rtx --extra ray --constraints requirements.lock \
	    --python-version 3.11 --universal --generate-hashes --no-emit-index-url --no-header -q \
	    -o deploy/container/requirements.lock

clean: ## Remove the environment and the caches; data (var) stay
	rm -rf .venv .uv .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find recjob tests migrations -name __pycache__ -type d -prune -exec rm -rf {} +

# An install that was cut short leaves .installing: then the folder is made anew, since a package
# may lack files that its record says are there.
.venv/.installed: requirements.lock | $(UV)
	@$(CHECK_PYTHON)
	@if [ -e .venv/.installing ] || ! $(RUN) -c '' 2>/dev/null; then rm -rf .venv; fi
	@[ -d .venv ] || $(PYTHON) -m venv --without-pip .venv
	@touch .venv/.installing
	"$(UV)" pip sync --require-hashes --python $(RUN) requirements.lock
	@mv .venv/.installing $@ && touch $@

.uv/bin/uv: requirements-uv.lock
	@$(CHECK_PYTHON)
	@$(PYTHON) -m venv --clear .uv/new || { \
	    echo "On Debian and Ubuntu: apt install python3-venv. Or put uv on PATH." >&2; exit 1; }
	.uv/new/bin/python -m pip install -q --require-hashes -r requirements-uv.lock
	@mkdir -p .uv/bin && mv .uv/new/bin/uv $@ && touch $@ && rm -rf .uv/new
