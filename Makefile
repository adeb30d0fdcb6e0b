# The two commands of the README are `make quickstart` and `make test`; the rest serves development.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check

.PHONY: quickstart test test-all coverage lint docs bench bench-quick bench-report clean

quickstart: $(VENV)/.installed
	$(BIN)/wenloom quickstart

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist worksteal -m "not slow"

test-all: $(VENV)/.dev
	$(BIN)/pytest -q
	PYTHONPATH=. $(BIN)/python -m tests.fuzz --inputs 100000 --workers 2

coverage: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist worksteal -m "not slow" --cov=wenloom --cov-report=term:skip-covered

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html; with search: $(BIN)/python -m http.server -d site"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/basedpyright -p tests/pyright.json
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/python bench/prepare.py

# Ten minutes beside transformers, and beside nanoGPT where NANOGPT names a checkout; make bench-report shows it.
bench-quick: $(VENV)/.dev
	$(BIN)/python bench/training.py speed --shapes cpu --contestants nanogpt nanogpt-bf16 hf-bf16 wenloom-adamw wenloom --most-rounds 5 $(if $(NANOGPT),--nanogpt $(NANOGPT))
	$(BIN)/python bench/generation.py --sizes 124m --contestants wenloom-bf16 wenloom-int8 hf-bf16 llamacpp-f16 llamacpp-q8_0 --most-rounds 5

bench-report: $(VENV)/.dev
	$(BIN)/python bench/history.py

$(VENV)/.python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Wenloom needs Python 3.11 or newer; name it: make PYTHON=/path/to/python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/.python
	$(PIP) install -q -c constraints.txt -e .
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.python
	$(PIP) install -q -c constraints.txt -e '.[dev]'
	touch $(VENV)/.installed $@

$(VENV)/.docs: pyproject.toml constraints.txt | $(VENV)/.python
	$(PIP) install -q -c constraints.txt -e '.[docs]'
	touch $(VENV)/.installed $@

clean:
	rm -rf $(VENV) site .hypothesis .pytest_cache .ruff_cache .import_linter_cache
