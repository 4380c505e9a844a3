# Each target does its own set-up in .venv; nothing else is needed than Python 3.11+, a C++ compiler and CMake.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint bench nano-train nano-eval clean

demo: $(VENV)/.installed
	$(BIN)/yuegguf run --example --segment-seconds 12 --seed 42 --output-dir songs

test: lint
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# half an hour on an idle machine with 24 GiB: every table of benchmarks/README.md that needs no checkpoint
bench: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.stage1_step
	$(BIN)/python -m benchmarks.peers --far 1000
	$(BIN)/python -m benchmarks.growth --folder bench-models --plot docs/growth.png
	$(BIN)/python -m benchmarks.plan_memory --folder bench-models
	$(BIN)/python -m benchmarks.plan_time --folder bench-models

# hours on two cores; goes on where it was stopped, and ends by replacing yuegguf/data/nano
nano-train: $(VENV)/.installed
	$(BIN)/pip install --quiet --editable '.[train]'
	$(BIN)/python -m nano.train nano-trained

# forty songs sung by the bundled family, measured against what was asked of it
nano-eval: $(VENV)/.installed
	$(BIN)/python -m nano.evaluate nano-figures

$(VENV)/.installed: pyproject.toml setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.installed-test: pyproject.toml setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
