# Each target sets up what it needs. Choose another Python: make test PYTHON=python3.11

VENV ?= .venv
PYTHON ?=
BIN := $(VENV)/bin
PACKAGES := $(foreach dir,ir backends moegen glam bench examples,$(if $(shell \
  find $(dir) -name '*.py' 2>/dev/null | head -n 1),$(dir)))

.DEFAULT_GOAL := help
.PHONY: help demo test check bench setup clean
unexport PYTHONPATH PYTHONHOME PIP_USER PIP_TARGET PIP_PREFIX

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1 | \2/p' Makefile | \
	  awk -F' [|] ' '{ printf "%-12s %s\n", $$1, $$2 }'

demo: setup ## the main job, end to end, on this machine
	@$(BIN)/moegen demo

# A file's tests stay in one process: they share what they compiled.
test: check ## lint, types and the whole test suite
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

check: setup ## lint and types only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(PACKAGES)

bench: setup ## the benchmark suites
	@$(BIN)/moegen bench

# Prints "VERSION PATH" where this Python is fit to make an environment from. Looks
# through a virtual environment to the Python below it.
PROBE := import os, sys, venv, ensurepip; \
  fit = sys.version_info >= (3, 11) and sys.implementation.name == "cpython"; \
  base = os.path.realpath(getattr(sys, "_base_executable", sys.executable)); \
  fit and print("%d.%d.%d" % sys.version_info[:3], base)

# Every Python on the PATH is run: a pyenv shim can be there and only fail.
FIND_PYTHON = \
  if [ -n "$(PYTHON)" ]; then "$(PYTHON)" -I -c '$(PROBE)'; else \
    IFS=:; for dir in $$PATH; do \
      for python in python3.1[1-9] python3.[2-9][0-9] python3 python; do \
        for file in "$$dir"/$$python; do \
          [ ! -x "$$file" ] || "$$file" -I -c '$(PROBE)'; \
        done; \
      done; \
    done; \
  fi 2>/dev/null | sort -s -t. -k2,2nr -k3,3nr | head -n 1

# The file VENV/installed-for says what the environment was made from: the Python on
# its first line, this folder and what was asked of pip on its second.
setup: ## make .venv, or bring it up to date (the other targets do this first)
	@found=$$($(FIND_PYTHON)); \
	if [ -z "$$found" ]; then \
	  if [ -n "$(PYTHON)" ]; then \
	    echo 'PYTHON=$(PYTHON) is no Python 3.11 or later that runs and has the venv module: name another, or leave PYTHON out.'; \
	  else \
	    echo 'No Python 3.11 or later with the venv module runs from the PATH: install one, or name it: make PYTHON=/path/to/python3'; \
	  fi >&2; \
	  exit 2; \
	fi; \
	version=$${found%% *}; python=$${found#* }; \
	pins=constraints-$${version%.*}.txt; \
	[ -f "$$pins" ] || pins=$$(ls constraints-3.*.txt | sort -t. -k2,2n | tail -n 1); \
	inputs="$$(pwd) $$pins $$(cat pyproject.toml "$$pins" | cksum)"; \
	stamp=$(VENV)/installed-for; \
	if [ "$$(cat $$stamp 2>/dev/null)" = "$$(printf '%s\n' "$$found" "$$inputs")" ]; then exit 0; fi; \
	if [ "$$(sed -n 1p $$stamp 2>/dev/null)" = "$$found" ]; then \
	  echo "bringing $(VENV) up to date with $$pins"; \
	else \
	  echo "setting up $(VENV) with Python $$version (first time, about a minute)"; \
	  "$$python" -m venv --clear $(VENV) || exit; \
	fi; \
	rm -f $$stamp; \
	$(BIN)/python -m pip install -q --disable-pip-version-check -c "$$pins" -e '.[dev]' || exit; \
	printf '%s\n' "$$found" "$$inputs" >$$stamp

clean: ## remove what these targets made
	rm -rf .venv .venv-oldest .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
	find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
