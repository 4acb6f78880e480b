# Each target does all of its own set-up: `make demo` and `make test` work in a clean clone.
#   PYTHON=python3.12 make test     another interpreter (3.11 or newer); the default is the first one found
#   BENCH=--quick VFS_BENCH=--quick make bench     arguments of benchmarks/run.py and benchmarks/vfs_run.py
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$name; break; }; done)
VENV := .venv
RUN := $(VENV)/bin/python
BENCH ?= --plot docs/bench.svg --json build/bench.json
FUSE_BENCH ?= --json build/fuse-bench.json
VFS_BENCH ?= --json build/vfs-bench.json
INSTALL := $(RUN) -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test test-fuse torture-fuse check lint torture bench bench-fuse clean

help:
	@echo "make demo      the main jobs on real input, in under two minutes"
	@echo "make test      every quick test"
	@echo "make test-fuse what runs through a mount (Linux, /dev/fuse, root)"
	@echo "make torture-fuse  the same in its long form: PostgreSQL, pip, npm, a hundred kills, stress"
	@echo "make check     format, lint, types, layers, documents, duplicates"
	@echo "make torture   all tests in their long form: crashes, faults, damage"
	@echo "make bench     speed and memory against other engines"
	@echo "make bench-fuse a mounted store beside ext4 (Linux, /dev/fuse, root)"
	@echo "make clean     remove what these made"

demo: $(VENV)/.vfs
	$(RUN) tools/demo.py

test: lint
	$(RUN) -m pytest --numprocesses=auto --dist=worksteal tests

test-fuse: $(VENV)/.dev
	$(RUN) -m pytest -m "fuse and not torture" tests/vfsdb/fuse

torture-fuse: $(VENV)/.dev
	OURDB_TORTURE=1 $(RUN) -m pytest -m fuse tests/vfsdb/fuse

check: lint
	$(RUN) -m mypy
	$(RUN) -m pytest tests/test_layers.py tests/test_public_api.py tests/test_docs.py tests/test_duplicates.py

lint: $(VENV)/.dev
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .

torture: $(VENV)/.dev
	OURDB_TORTURE=1 $(RUN) -m pytest -m "" tests

bench: $(VENV)/.bench
	$(RUN) benchmarks/run.py $(BENCH)
	$(RUN) benchmarks/vfs_run.py $(VFS_BENCH)

bench-fuse: $(VENV)/.dev
	$(RUN) benchmarks/fuse_run.py $(FUSE_BENCH)

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis ourdb.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is touched last, so that an interrupted set-up starts again.
$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "ourdb needs Python 3.11 or newer: apt-get install python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || $(MAKE) --no-print-directory apt-venv
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.vfs: pyproject.toml $(VENV)/.made
	$(INSTALL) --editable '.[vfs]'
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.made
	$(INSTALL) --editable '.[dev]'
	@touch $@

$(VENV)/.bench: pyproject.toml $(VENV)/.made
	$(INSTALL) --editable '.[bench]'
	@touch $@

.PHONY: apt-venv
apt-venv:
	@test "$$(id -u)" -eq 0 || { echo "this Python has no venv; run: sudo apt-get install python3-venv" >&2; exit 1; }
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv
