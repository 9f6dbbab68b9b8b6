# setup, demo, test, check: each does its own set-up, from nothing but Python 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin

# A CPU build of torch for a machine without an NVIDIA card: make setup TORCH_INDEX_URL=<PyTorch's CPU index>
ifdef TORCH_INDEX_URL
TORCH_FROM := --extra-index-url $(TORCH_INDEX_URL)
endif

.PHONY: setup demo ui test chromium chaos fuzz slow check bench format docs schemas screenshots image clean

setup: .venv/.ready .venv-ui/.ready .venv-modal/.ready

.venv/.ready: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Pilotlight needs Python 3.11 or newer; name one with: make setup PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo "This Python cannot make environments; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "Installing into .venv: about 390 MB to download and 1.7 GB on disk with a CPU build of torch, 1 to 5 minutes."
	@echo "Where pip takes the CUDA build (Linux, no TORCH_INDEX_URL): several GB more, so think of the time and the disk."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH_FROM) -c requirements.lock -e '.[dev]'
	@touch $@

# The web page has an environment of its own, as it has where it is deployed.
.venv-ui/.ready: ui_space/requirements.txt
	@echo "Installing the web page's environment into .venv-ui: about 60 MB to download."
	@$(PYTHON) -m venv .venv-ui
	@.venv-ui/bin/python -m pip install --quiet --disable-pip-version-check -r ui_space/requirements.txt
	@touch $@

# What deploys to Modal needs no more than Modal's client.
.venv-modal/.ready: platforms/modal/requirements.txt
	@echo "Installing Modal's client into .venv-modal: about 10 MB to download."
	@$(PYTHON) -m venv .venv-modal
	@.venv-modal/bin/python -m pip install --quiet --disable-pip-version-check -r platforms/modal/requirements.txt
	@touch $@

demo: setup
	@$(BIN)/pilotlight demo

ui: setup
	@$(BIN)/pilotlight up --ui

test: setup chromium
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile

# Debian's Chromium, which the tests of the web page look through.
chromium:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } || \
	  { echo "The tests of the web page need a browser; on Debian and Ubuntu: sudo apt-get install chromium"; exit 1; }

chaos: setup
	$(BIN)/python -m pytest -m chaos -s

fuzz: setup
	$(BIN)/python -m pytest -m fuzz -s

slow: setup
	$(BIN)/python -m pytest -m slow -s

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m docs.generate --check

bench: setup
	$(BIN)/python -m bench.take_ahead
	$(BIN)/python -m bench.streaming
	$(BIN)/python -m bench.cold_start
	$(BIN)/python -m bench.overhead

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs schemas: setup
	$(BIN)/python -m docs.generate

screenshots: setup chromium
	$(BIN)/python -m docs.screenshots

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
image:
	docker build --platform linux/amd64 -f Dockerfile-base -t pilotlight-base:$(VERSION) .
	docker build --platform linux/amd64 --build-arg BASE_IMAGE=pilotlight-base:$(VERSION) \
	  --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD) -t pilotlight:$(VERSION) .

clean:
	rm -rf .venv .venv-ui .venv-modal
