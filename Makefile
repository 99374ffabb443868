# sipdeploy: two commands, `make demo` and `make test`; `make check` while working.
#
# All generated files are in this directory (.venv, and node_modules in lab/phones and web) and in
# ~/.cache/sipdeploy-lab.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.made

.DEFAULT_GOAL := help
.PHONY: help demo test test-source bench check lab-ready format clean

help:            ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1  \t/p' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is missing: apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "make: no venv: apt-get install python3-venv"; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

lab-ready: $(STAMP)   ## install the tools of the lab (only as root on Debian or Ubuntu)
	@$(BIN)/python -m lab install

demo: lab-ready  ## boot a temporary host, apply the example, make a call
	@$(BIN)/python -m lab demo

check: $(STAMP)  ## check format, lint and types, run the unit tests
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	SIPDEPLOY_TESTS=quick $(BIN)/python -m pytest tests/unit -q -n 2

test: lab-ready  ## run all checks and tests; without root, skip the tests of the lab
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/unit -n 3 --cov
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --ignore tests/unit --ignore tests/lab/test_many_hosts.py
	$(BIN)/python -m pytest tests/lab/test_many_hosts.py  # alone, because it boots many hosts

test-source: lab-ready ## build Asterisk from source on Debian 13 (half an hour)
	$(BIN)/python -m pytest --source -m source

bench: lab-ready ## compare apply with bare SSH, pyinfra and Ansible, at three distances
	@test -d .bench-venv || { $(PYTHON) -m venv .bench-venv && .bench-venv/bin/pip install --quiet -r bench/requirements.txt; }
	@$(BIN)/python -m bench

format: $(STAMP) ## format the code, and apply the fixes of ruff
	$(BIN)/ruff format --quiet .
	$(BIN)/ruff check --fix --quiet .

clean:           ## remove the files of the tools; keep the caches in your home
	rm -rf $(VENV) lab/phones/node_modules lab/phones/build web/node_modules web/dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
