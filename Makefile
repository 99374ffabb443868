# sipdeploy: two commands, `make demo` and `make test`; `make check` while working.
#
# Everything is made below this folder (.venv, lab/phones/node_modules) and in ~/.cache/sipdeploy-lab.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.made

.DEFAULT_GOAL := help
.PHONY: help demo test test-source bench check lab-ready format clean

help:            ## what there is
	@sed -n 's/^\([a-z-]*\):.*## /  make \1  \t/p' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is missing: apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "make: no venv: apt-get install python3-venv"; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

lab-ready: $(STAMP)   ## what the lab needs on this machine (root, Debian or Ubuntu; else nothing)
	@$(BIN)/python -m lab install

demo: lab-ready  ## a throw-away host, the example applied to it, a proven call
	@$(BIN)/python -m lab demo

check: $(STAMP)  ## format, lint, types, unit tests: seconds
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	SIPDEPLOY_TESTS=quick $(BIN)/python -m pytest tests/unit -q -n 2

test: lab-ready  ## everything; without root the lab's tests are skipped, and counted
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/lab/test_many_hosts.py
	$(BIN)/python -m pytest tests/lab/test_many_hosts.py  # many hosts want this machine for themselves

test-source: lab-ready ## Asterisk built from source on Debian 13, half an hour
	$(BIN)/python -m pytest --source -m source

bench: lab-ready ## an apply beside a bare SSH process, pyinfra and Ansible, at three distances
	@test -d .bench-venv || { $(PYTHON) -m venv .bench-venv && .bench-venv/bin/pip install --quiet -r bench/requirements.txt; }
	@$(BIN)/python -m bench

format: $(STAMP) ## let ruff write
	$(BIN)/ruff format --quiet .
	$(BIN)/ruff check --fix --quiet .

clean:           ## what the tools made here; the caches in your home stay
	rm -rf $(VENV) lab/phones/node_modules lab/phones/build .mypy_cache .ruff_cache .pytest_cache .hypothesis
