# The commands for developers; `make` alone lists them. They need python3 (3.11 or newer) and nothing else.

PYTHON ?= python3
WORKERS ?= 3
SEEDS ?= 1000
FIRST ?= 0
KILLS ?= 10
MINUTES ?= 10

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-stamp
export UV_PYTHON_DOWNLOADS := never
# Trust the machine's certificates, a company's authority included; pip has separate settings for that.
ifneq ($(wildcard /etc/ssl/certs/ca-certificates.crt),)
export UV_SYSTEM_CERTS := true
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo run test simulate chaos replicas mutants soak lint words bench fmt

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Create .venv with the locked dependencies (quick when nothing changed)
	@echo "$(VENV) is ready"

demo: $(STAMP) ## Run the demonstration: preemption and dependencies on a small cluster, in a minute
	@$(BIN)/hypervisor demo

run: $(STAMP) ## Serve on http://127.0.0.1:8000 with an embedded database
	@$(BIN)/hypervisor serve

test: $(STAMP) ## Run the suite (WORKERS=0 for one process, ARGS="-k name" to select)
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope $(ARGS)

simulate: $(STAMP) ## Run 1,000 histories under faults in virtual time (SEEDS=n, FIRST=n)
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS) --first $(FIRST)

chaos: $(STAMP) ## Kill, pause and disconnect real servers, 10 times at each failpoint (KILLS=n)
	@CHAOS_KILLS=$(KILLS) CHAOS_ROUNDS=20 $(BIN)/python -m pytest -s tests/chaos

replicas: MINUTES = 5
replicas: $(STAMP) ## Run two schedulers and two API servers, one of each killed every 20 s (MINUTES=n)
	@$(BIN)/python -m tests.replicas --minutes $(MINUTES)

mutants: $(STAMP) ## Plant known defects in a copy and check that the suite finds each
	@$(BIN)/python -m tests.mutants

soak: $(STAMP) ## Load a server for MINUTES=n; check memory, descriptors, invariants each minute
	@$(BIN)/python -m tests.soak --minutes $(MINUTES)

lint: $(STAMP) words ## Check style, formatting, types, import contracts and words
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

words: $(STAMP) ## Check that the words in scripts/words.toml are not used
	@$(BIN)/python -m scripts.check_words

fmt: $(STAMP) ## Format the code and fix what ruff can fix
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

bench: $(STAMP) ## Run the small form of every benchmark and write docs/benchmarks.md
	@$(BIN)/python -m benchmarks.support.run_all

$(STAMP): pyproject.toml uv.lock
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.11 or newer, or set PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is $$($(PYTHON) --version 2>&1), but 3.11 or newer is needed: set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) comes without venv: on Debian or Ubuntu run apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing the locked dependencies into $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
	@$(BIN)/uv sync --frozen --quiet
	@touch $@
