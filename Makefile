# Two commands are enough on a machine that has Python 3.10+ and make: `make demo` and `make test`.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test test-django faults lint format bench bench-compare clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.ready ## run several thousand jobs on an embedded PostgreSQL
	$(BIN)/pgq-sync demo --embedded

# Most tests wait for something most of the time: four processes share them, also on two cores. What measures has the machine alone.
test: $(VENV)/.ready ## run the tests on an embedded PostgreSQL (ARGS="-k dedupe" for some of them)
ifdef ARGS
	$(BIN)/python -m pytest $(ARGS)
else
	$(BIN)/python -m pytest -n 4 --dist worksteal -m "not alone"
	$(BIN)/python -m pytest -m alone
endif

test-django: $(VENV)/.ready ## run the tests of Django and its example (PYTHON=python3.13 VENV=.venv-3.13: with the Django that this Python takes)
	$(BIN)/python -m pytest -n 4 --dist worksteal -m "not alone" tests/django tests/examples $(ARGS)

faults: $(VENV)/.ready ## kill, stop, cut and crash everything at full length; `make test` does it in brief
	PGQ_FAULTS=full $(BIN)/python -m pytest tests/faults $(ARGS)

lint: $(VENV)/.ready ## check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.ready ## bring the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.ready ## measure latency, throughput and how flat a claim's cost is
	$(BIN)/python -m benchmarks $(ARGS)

bench-compare: $(VENV)/.ready ## measure pgq-sync and its peers, an hour and a quarter; table and plots go to docs/benchmarks
	$(BIN)/python -m benchmarks.compare $(ARGS)

clean: ## forget the virtual environment and every cache
	rm -rf .venv .venv-* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build dist *.egg-info

$(VENV)/.ready: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("pgq-sync needs Python 3.10 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@
