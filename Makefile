# Every target sets up what it needs; a second run sets up nothing. Needs Python >= 3.11 with pip and venv, and make.
#   make demo PYTHON=python3.12      another interpreter
#   make demo PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
#                                    on Linux without an NVIDIA GPU: the CPU build of torch, 0.2 GB instead of 3 GB
#   make test PYTEST_ARGS="tests/test_geometry.py"   some of the tests

PYTHON ?= python3
PIP_ARGS ?=
OUT ?= demo
TEST_WORKERS ?= 2
PYTEST_ARGS ?=

PY := .venv/bin/python
VENV_STAMP := .venv/.venv-stamp
DEMO_STAMP := .venv/.demo-stamp
DEV_STAMP := .venv/.dev-stamp
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
INSTALL = $(PY) -m pip install --disable-pip-version-check --prefer-binary $(PIP_ARGS) -c constraints.txt

define TORCH_HINT
if [ -z "$(PIP_ARGS)" ] && [ "$$(uname -s)" = Linux ] && [ ! -e /dev/nvidiactl ] \
		&& ! $(PY) -c 'import importlib.util as u, sys; sys.exit(not u.find_spec("torch"))'; then \
	echo "There is no NVIDIA GPU here. If pip starts to download gigabytes for one, stop it and run"; \
	echo '  make $(MAKECMDGOALS) PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"'; \
fi
endef

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint bench clean
.DELETE_ON_ERROR:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(DEV_STAMP) ## install everything: the package, its data tools, tests and linters
	@echo "Ready. Try: .venv/bin/remind --help"

demo: $(DEMO_STAMP) ## a report that shows a model remembering, in OUT (default: demo/)
	.venv/bin/remind demo --out "$(OUT)"

test: $(DEV_STAMP) ## run the tests (TEST_WORKERS=2, PYTEST_ARGS=...)
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(PY) -m pytest -n $(TEST_WORKERS) $(PYTEST_ARGS)

lint: $(DEV_STAMP) ## ruff, mypy and the import rule of docs/architecture.md
	$(PY) -m ruff check .
	$(PY) -m mypy
	.venv/bin/lint-imports --no-logo

bench: $(DEV_STAMP) ## measure speed: every script in benchmarks/, JSON into benchmarks/results/
	@mkdir -p benchmarks/results
	@set -e; for script in benchmarks/*.py; do \
		[ -e "$$script" ] || { echo "benchmarks/ holds no script" >&2; exit 2; }; \
		echo "== $$script"; $(PY) "$$script" --out "benchmarks/results/$$(basename "$$script" .py).json"; \
	done

clean: ## remove caches and build files; keeps .venv, runs, stores and reports
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis src/*.egg-info
	find src tests experiments benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV_STAMP):
	@$(PY) -c '$(NEW_ENOUGH)' 2>/dev/null || { \
		$(PYTHON) -c '$(NEW_ENOUGH)' 2>/dev/null || { \
			echo "'$(PYTHON)' does not do; got $$($(PYTHON) --version 2>/dev/null || echo nothing that runs);" \
				"expected Python 3.11 or newer. Fix: make $(or $(MAKECMDGOALS),setup) PYTHON=python3.12" >&2; exit 2; }; \
		$(PYTHON) -m venv --clear .venv || { \
			echo "No virtual environment could be made. Fix: install Python's venv module" \
				"(Debian, Ubuntu: apt install python3-venv)" >&2; exit 2; }; }
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip
	@touch $@

$(DEMO_STAMP): $(VENV_STAMP) pyproject.toml constraints.txt
	@$(TORCH_HINT)
	$(INSTALL) -e .
	@touch $@

$(DEV_STAMP): $(VENV_STAMP) pyproject.toml constraints.txt
	@$(TORCH_HINT)
	$(INSTALL) -e '.[dev]'
	@touch $(DEMO_STAMP) $@
