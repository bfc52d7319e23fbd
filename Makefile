# Everything a desk and a build machine do; see `make help`. Nothing here needs root.
# The first target that needs it makes .venv, which takes minutes; later ones start at once.

PYTHON ?= $(shell for name in python3.11 python3 python3.12 python3.13; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
IN ?= examples/pictures
OUT ?= report.html

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
MANIFESTS := pyproject.toml constraints.txt
SCAN_READY := $(VENV)/.ready-scan
DEV_READY := $(VENV)/.ready-dev

.DELETE_ON_ERROR:
.PHONY: help scan test check fix golden graph browser bench bench-scale release clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

scan: $(SCAN_READY)  ## scan IN (examples/pictures) and write the page OUT (report.html)
	$(BIN)/gammascope scan "$(IN)" --report "$(OUT)"

test: $(DEV_READY)  ## run the tests, with coverage
	$(BIN)/python -m pytest -n auto --dist loadfile --max-worker-restart 0 --cov --cov-report=term:skip-covered

check: $(DEV_READY)  ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(DEV_READY)  ## format, and mend what the linter can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

golden: $(DEV_READY)  ## write the golden numbers anew; look at the difference before you commit
	GAMMASCOPE_UPDATE_GOLDEN=1 $(BIN)/python -m pytest tests/contract

graph: $(DEV_READY)  ## write the graph of the embedded detector anew, after its weights have changed
	$(BIN)/gammascope export

browser: $(DEV_READY)  ## drive the report page in chromium, if there is one
	$(BIN)/python -m pytest -m browser tests/browser

bench: $(DEV_READY)  ## measure speed and memory, hours on a machine left alone; results in runs/benchmarks
	$(BIN)/python benchmarks/run.py --out runs/benchmarks $(if $(DATA),--data "$(DATA)") $(if $(PEER),--peer "$(PEER)")

bench-scale: $(DEV_READY)  ## measure millions of rows, Ray and torchrun, hours on a machine left alone, and print costs
	$(BIN)/python benchmarks/run.py --out runs/benchmarks --scale

release:  ## build sdist and wheel in dist/, and try the wheel in an empty environment: make release PYTHON=python3.13
	rm -rf dist build/release
	$(PYTHON) -m venv build/release/builder
	build/release/builder/bin/python -m pip --disable-pip-version-check install --quiet build
	build/release/builder/bin/python -m build --outdir dist .
	$(PYTHON) -m venv build/release/empty
	build/release/empty/bin/python -m pip --disable-pip-version-check install --quiet -c constraints.txt dist/*.whl
	cp examples/pictures/generated_cup.jpg build/release
	cd build/release && unset PYTHONPATH && PATH="$(CURDIR)/build/release/empty/bin:$$PATH" && \
	  gammascope --help > help.txt && gammascope scan generated_cup.jpg --fail-on fake; test $$? = 10 && \
	  python -c 'import gammascope; assert gammascope.detect("generated_cup.jpg").verdict == "fake"'
	@echo "Tried with $$(build/release/empty/bin/python --version): dist/ holds the release."

clean:  ## remove caches and .venv
	rm -rf $(VENV) build dist htmlcov .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer found: install one, or make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The development install holds all that a scan needs.
$(SCAN_READY): $(MANIFESTS) | $(BIN)/python
	test $(DEV_READY) -nt pyproject.toml || $(PIP) -e ".[heif]"
	touch $@

$(DEV_READY): $(MANIFESTS) | $(BIN)/python
	$(PIP) -e ".[dev]"
	touch $@
