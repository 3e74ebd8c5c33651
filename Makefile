# Every target sets up what it needs; a second run finds that nothing changed.

PYTHON ?= python3
PY     := .venv/bin/python
STACK  := $(PY) docker/local/nightshift_local
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help venv venv-dev up down ps logs demo test unit chaos soak bench bench-peers gpu-test gpu-bench images audit lint typecheck imports monitoring-check format lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv:
	@$(PYTHON) docker/local/bootstrap.py local

venv-dev:
	@$(PYTHON) docker/local/bootstrap.py dev

up: venv ## Start the local stack in the background; addresses in .nightshift/env
	@$(STACK) up

down: ## Stop the local stack; its data stays
	@if [ -x $(PY) ]; then $(STACK) down; else echo "The stack is not running."; fi

ps: venv ## Show name, pid, port and state of each process
	@$(STACK) ps

logs: venv ## Follow the logs (make logs NAME=api for one process)
	@$(STACK) logs --follow $(NAME)

demo: venv ## Embed the docstrings of the Python standard library as one batch
	@$(STACK) demo

test: venv-dev ## Run every check and every test
	@$(PY) docker/local/checks.py $(PYTEST_ARGS)

unit: venv-dev ## Run the tests that need no server
	@$(PY) -m pytest tests/unit tests/architecture $(PYTEST_ARGS)

chaos: venv-dev ## Inject every fault of docs/reliability.md and measure; table in .nightshift/chaos/
	@$(PY) -m pytest tests/chaos/matrix -m matrix $(PYTEST_ARGS)

soak: venv-dev ## Kill a random process every few seconds (make soak MINUTES=10)
	@NIGHTSHIFT_SOAK_MINUTES=$(or $(MINUTES),10) $(PY) -m pytest tests/chaos/test_soak.py -s $(PYTEST_ARGS)

bench: venv-dev ## Measure this machine beside bare encode (make bench BENCH_ARGS='--only short')
	@PYTHONPATH=docker/local:tests $(PY) -m tests.bench $(BENCH_ARGS)

bench-peers: venv-dev ## Measure against infinity and Ray Data, each installed into the user's cache
	@PYTHONPATH=docker/local:tests $(PY) -m tests.bench.peers $(BENCH_ARGS)

gpu-test: venv-dev ## Run the tests that need a CUDA device
	@PYTHONPATH=docker/local:tests $(PY) -m pytest tests/gpu -m gpu $(PYTEST_ARGS)

gpu-bench: venv-dev ## Measure the engine on a CUDA device against bare encode, with MFU
	@PYTHONPATH=docker/local:tests $(PY) -m tests.bench.gpu $(BENCH_ARGS)

images: ## Build the container images with Docker, Podman or Buildah and look into them
	@$(PYTHON) docker/build_images.py

audit: venv ## Look up known holes in what is locked (pip-audit), and tell of old locks
	@$(PY) docker/local/audit.py

lint: venv-dev ## ruff: rules and format
	@$(PY) -m ruff check --config config/ruff.toml .

typecheck: venv-dev ## mypy, strict
	@$(PY) -m mypy

imports: venv-dev ## import-linter: workers -> tasks -> app -> config
	@.venv/bin/lint-imports --config setup.cfg

monitoring-check: venv ## promtool: the Prometheus configuration, the alerts and their tests
	@$(PY) docker/local/monitoring_check.py

format: venv-dev ## Let ruff mend what it can
	@$(PY) -m ruff format --config config/ruff.toml .
	@$(PY) -m ruff check --config config/ruff.toml --fix .

lock: venv-dev ## Write config/lock/*.txt from what is installed
	@$(PY) docker/local/lock.py

clean: down ## Remove the stack's data and the virtual environment
	rm -rf .nightshift .venv
