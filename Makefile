# One command for each thing; every one of them sets up what it needs on a machine with Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin
DEMO_OUT ?= runs/demo
PYTEST ?=

.PHONY: setup demo test test-fast lint docs bench lock clean

setup: .venv/.ready

.venv/.ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("thanos needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Pass PYTHON=python3.11 to make.") if sys.version_info < (3, 11) else 0'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m uv --version >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/python -m uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/python -m uv pip install --quiet --python $(BIN)/python --no-deps -e .
	touch $@
	@echo "ready; next: $(BIN)/thanos demo"

demo: setup
	$(BIN)/thanos demo --out $(DEMO_OUT)

test: setup
	$(BIN)/python -m pytest $(PYTEST)

test-fast: setup
	$(BIN)/python -m pytest -m "not slow"

lint: setup
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

docs: setup
	$(BIN)/sphinx-build --quiet --fresh-env --fail-on-warning --builder html docs site

bench: setup
	$(BIN)/python benchmarks/views.py

lock: setup
	$(BIN)/python -m uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make lock" --python-version 3.11 --extra dev pyproject.toml -o requirements.lock

clean:
	rm -rf .venv runs site .pytest_cache .mypy_cache .ruff_cache .hypothesis
