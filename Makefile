.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.venv/installed: requirements-dev.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

.venv/spark/installed: examples/spark/requirements.txt
	$(PYTHON) -m venv .venv/spark
	.venv/spark/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	touch $@

.PHONY: help demo test check slow bench fault lock format
help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/installed ## Run a grocer's year of coupons on embedded servers (ARGS="--exit --campaigns 8,13")
	$(BIN)/coupon-ledger demo $(ARGS)

test: .venv/installed ## Run every test on real servers that the tests start (ARGS="tests/unit -k coupon")
	$(BIN)/pytest --numprocesses 2 --dist loadfile $(ARGS)

slow: .venv/installed .venv/spark/installed ## Run the tests that take minutes: Spark, and a grocer's whole year (ARGS="-k spark")
	$(BIN)/pytest tests/slow $(ARGS)

check: .venv/installed ## Format, lint, types, import rules and unit tests, in under a minute
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest tests/unit tests/contract/test_events.py

bench: .venv/installed ## Measure beside the rivals and print ratios (ARGS="--case claims --seconds 5")
	$(BIN)/python -m benchmarks $(ARGS)

fault: .venv/installed ## Break the whole service 200 times and check the promises (ARGS="--schedules 1 --seed 7")
	$(BIN)/python -m tests.fault $(ARGS)

format: .venv/installed ## Format the code and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: .venv/installed ## Resolve the lock files again
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.11 --output-file requirements.lock pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.11 --extra dev --output-file requirements-dev.lock pyproject.toml
