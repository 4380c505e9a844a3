# Each target does its own set-up in .venv; nothing else is needed than Python 3.11+, a C++ compiler and CMake.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

LEAN := -DLLAVA_BUILD=OFF -DCMAKE_PROJECT_llama.cpp_INCLUDE=$(CURDIR)/cmake/llama.cmake
WANTED := import tomllib; print(*(d for d in tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"] \
	if d.startswith("llama-cpp-python")))
PORTABLE := .portable
RPC := .rpc

BUILD = $(BIN)/pip install --no-deps --no-cache-dir --no-binary llama-cpp-python
# another build of the installed binding, which PYTHONPATH puts before it
SAME_BINDING = "$$($(BIN)/pip freeze | grep '^llama_cpp_python==')"

.PHONY: demo serve test quick test-portable test-rpc lint docs screenshots bench nano-train nano-eval clean

demo: $(VENV)/.installed
	$(BIN)/yuegguf run --example --segment-seconds 12 --seed 42 --output-dir songs

# the page and the API with the bundled family, until Ctrl-C
serve: $(VENV)/.installed-serve
	$(BIN)/yuegguf serve --model nano --songs songs

# in two processes, a file of tests in each
test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

# the tests that open no real model and take little by themselves: a minute on two cores
quick: $(VENV)/.installed-test
	$(BIN)/python -m pytest -q -n 2 -m "not engine and not slow"

# the tests of real models again, on a llama.cpp for processors without AVX2, whose sums end in other bits
test-portable: $(PORTABLE)/.built $(VENV)/.installed-test
	PYTHONPATH=$(CURDIR)/$(PORTABLE) $(BIN)/python -m pytest -m engine

# the tests of layers on an RPC server, a second device without a card, on a llama.cpp that has RPC
test-rpc: $(RPC)/.built $(VENV)/.installed-test
	PYTHONPATH=$(CURDIR)/$(RPC) $(BIN)/python -m pytest tests/lm/test_rpc.py tests/pipeline/test_rpc_songs.py

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# the documents that are made from the sources
docs: $(VENV)/.installed-test
	$(BIN)/python -m yuegguf.cli._docs > docs/cli.md
	PYTHONPATH=tests/support:. $(BIN)/python tests/support/python_docs.py docs/python.md
	PYTHONPATH=tests/support:. $(BIN)/python tests/support/message_docs.py docs/messages.md

# the pictures of the page in docs/, from a song of the bundled models in Chromium
screenshots: $(VENV)/.installed-test
	PYTHONPATH=tests/support:. $(BIN)/python tests/support/screenshots.py docs

# half an hour on an idle machine with 24 GiB: every table of benchmarks/README.md that needs no checkpoint
bench: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.stage1_step
	$(BIN)/python -m benchmarks.own_overhead
	$(BIN)/python -m benchmarks.peers --far 1000
	$(BIN)/python -m benchmarks.growth --folder bench-models --plot docs/growth.png
	$(BIN)/python -m benchmarks.plan_memory --folder bench-models
	$(BIN)/python -m benchmarks.plan_time --folder bench-models

# hours on two cores; goes on where it was stopped, and ends by replacing yuegguf/data/nano
nano-train: $(VENV)/.installed
	$(BIN)/pip install --quiet --editable '.[train]'
	$(BIN)/python -m nano.train nano-trained

# forty songs of the bundled family, measured against their requests
nano-eval: $(VENV)/.installed
	$(BIN)/python -m nano.evaluate nano-figures

$(VENV)/.installed: $(VENV)/.llama-cpp pyproject.toml setup.py yuegguf/stages/sampler.c
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.installed-serve: $(VENV)/.installed
	$(BIN)/pip install --quiet --editable '.[serve]'
	touch $@

# most modules of PyTorch are never imported, so none is compiled beforehand
$(VENV)/.installed-test: $(VENV)/.installed
	@echo "Installing what the tests need, PyTorch among it."
	$(BIN)/pip install --quiet --no-compile --editable '.[test]'
	touch $@

# the one build of llama.cpp, for every target; CMAKE_ARGS of your own come last, so they win; pip's cache may
# hold a build of another processor or with other arguments
$(VENV)/.llama-cpp:
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Building llama.cpp from source, once: about five minutes on two cores."
	CMAKE_ARGS="$(LEAN) $$CMAKE_ARGS" $(BUILD) "$$($(BIN)/python -c '$(WANTED)')"
	touch $@

$(PORTABLE)/.built: | $(VENV)/.installed-test
	rm -rf $(PORTABLE)
	@echo "Building llama.cpp without AVX2, once, into $(PORTABLE): about five minutes on two cores."
	CMAKE_ARGS="$(LEAN) -DGGML_NATIVE=OFF -DGGML_AVX2=OFF -DGGML_FMA=OFF -DGGML_F16C=OFF" \
		$(BUILD) --target $(PORTABLE) $(SAME_BINDING)
	touch $@

$(RPC)/.built: | $(VENV)/.installed-test
	rm -rf $(RPC)
	@echo "Building llama.cpp with RPC, once, into $(RPC): about five minutes on two cores."
	CMAKE_ARGS="$(LEAN) -DGGML_RPC=ON" $(BUILD) --target $(RPC) $(SAME_BINDING)
	touch $@

clean:
	rm -rf $(VENV) $(PORTABLE) $(RPC) build dist *.egg-info yuegguf/stages/_sampler.*.so
