# Habits in one word each; `make help` lists them.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
OUT ?= demo

.DEFAULT_GOAL := help
.PHONY: help demo train-demo test test-engines check bench chaos filter-report clean

help: ## what each word does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/pip install --quiet -c constraints.txt -e .[dev,train]
	@touch $@

$(VENV)/installed-train: $(VENV)/installed
	$(BIN)/pip install --quiet -c constraints.txt -e .[train]
	@touch $@

demo: $(VENV)/installed ## set up, caption real photographs, verify, and write demo/out/report.html
	$(BIN)/python -m pipelines.demo $(OUT)

train-demo: $(VENV)/installed-train ## all stages of EVEv2 and ELVA on the demo's corpus, on a CPU, in OUT/train
	test -d $(OUT)/out/manifests || $(BIN)/python -m pipelines.demo $(OUT)
	$(BIN)/python -m trainer.demo $(OUT)/out $(OUT)/train

test: $(VENV)/installed-dev ## set up and run the tests
	$(BIN)/python -m pytest

test-engines: $(VENV)/installed-dev ## real vLLM, SGLang and img2dataset: install all into .engines (7 GB, once), run their tests
	$(BIN)/python -m tests.engines.install
	$(BIN)/python -m pytest tests/engines

check: $(VENV)/installed-dev ## format, lint, types, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

filter-report: $(VENV)/installed-dev ## precision and recall of every filter on labelled captions, with the worst mistakes
	$(BIN)/python -m benchmarks.filter_report

chaos: $(VENV)/installed-dev ## the long campaigns of kills and faults, about an hour, on one page
	$(BIN)/python -m tests.chaos --page docs/chaos.md

bench: $(VENV)/installed-dev ## every figure of the README, side by side with what one would take instead
	for each in $(basename $(notdir $(wildcard benchmarks/bench_*.py))); do \
	  echo "== $$each"; $(BIN)/python -m benchmarks.$$each || exit 1; done

clean: ## remove what make made
	rm -rf $(VENV) .engines demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache
