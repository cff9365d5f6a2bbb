# Whirr's tasks. Each needs only Python (3.11 to 3.13), make and the Python package registry:
# what else it needs goes into .venv, once for each set of extras, and again when pyproject.toml or constraints.txt change.
#
#   make demo                 the whole path on simulated machines
#   make demo WAV_DIR=DIR     the same with recordings: DIR/<machine>/train/* and DIR/<machine>/test/{normal,anomaly}*
#   make test ARGS="-k rule"  some of the tests
#   make demo PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
DEMO_EXTRAS := embedded,stream,train
DEV_EXTRAS := audio,dev,$(DEMO_EXTRAS)
BENCH_EXTRAS := bench,$(DEV_EXTRAS)
ARGS ?=

.PHONY: help venv demo test test-embedded lint format bench bench-feast bench-hostile bench-train quality lifetimes schemas constraints services chaos clean distclean

help: ## List these tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

demo: $(INSTALLED)-demo ## Simulate a plant, train, stream, and print each alert (WAV_DIR=DIR: your recordings)
	@$(RUN) -m examples.demo $(if $(WAV_DIR),--wav-dir "$(WAV_DIR)") $(ARGS)

test: $(INSTALLED)-dev ## Run the tests; what needs a service that is not here is skipped, with the reason
	@$(RUN) -m pytest -n 2 --dist loadgroup $(ARGS)

test-embedded: $(INSTALLED)-dev ## Run the tests that need no Apache Kafka, Redis or PostgreSQL
	@$(RUN) -m pytest -n 2 --dist loadgroup -m "not real_services" $(ARGS)

lint: $(INSTALLED)-dev ## Check style, types and who imports whom
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

format: $(INSTALLED)-dev ## Put the code into its one format
	@$(VENV)/bin/ruff check --fix
	@$(VENV)/bin/ruff format

bench: $(INSTALLED)-bench ## Measure, each figure as a ratio in one run
	@$(RUN) -m benchmarks $(ARGS)

bench-hostile: $(INSTALLED)-bench ## Measure what honest machines feel of a gateway that sends the costliest frames
	@$(RUN) -W ignore -m benchmarks.hostile $(ARGS)

bench-train: $(INSTALLED)-bench ## Time a training on 1,000 clips of ten seconds (ARGS="--epochs 3": a quick look)
	@$(RUN) -W ignore -m benchmarks.training $(ARGS)

bench-feast: $(INSTALLED)-bench ## Measure the feature store: reads, writes, and what pushing costs a worker
	@$(RUN) -W ignore -m benchmarks.features $(ARGS)

quality: $(INSTALLED)-bench ## Train every detector on real recordings (ROOT=DIR) and print what it reaches
	@$(RUN) -W ignore -m benchmarks.quality $(if $(ROOT),--root "$(ROOT)") $(ARGS)

chaos: $(INSTALLED)-dev ## Kill, pause and cut off all that can be while frames flow, and count (ARGS=--short: in minutes)
	@$(RUN) -m tests.services fetch >/dev/null
	@$(RUN) -m tests.chaos $(ARGS)

lifetimes: $(INSTALLED)-bench ## Play bearings run to failure (ROOT=DIR) live: when does the first alert come?
	@$(RUN) -W ignore -m benchmarks.lifetimes $(if $(ROOT),--root "$(ROOT)") $(ARGS)

schemas: $(INSTALLED)-dev ## Write the JSON Schemas from the Python types
	@$(RUN) -m schemas.generate

services: $(INSTALLED)-dev ## Run Apache Kafka, Redis and PostgreSQL for the tests until Ctrl-C
	@$(RUN) -m tests.services run

constraints: $(INSTALLED)-dev ## Resolve every version anew into constraints.txt
	@$(VENV)/bin/uv pip compile --quiet --upgrade pyproject.toml --universal --python-version 3.11 --all-extras \
		--no-emit-index-url --no-header --output-file constraints.txt

venv: $(INSTALLED)-dev ## Make .venv with all that the tests need

clean: ## Remove what the tasks wrote, but not .venv
	@rm -rf build dist demo-out chaos-out bench-out mlruns mlartifacts .mypy_cache .pytest_cache .ruff_cache .hypothesis \
		.import_linter_cache .whirr
	@find . -name __pycache__ -type d -not -path "./$(VENV)/*" -prune -exec rm -rf {} +

distclean: clean ## Remove .venv too
	@rm -rf $(VENV)

$(INSTALLED)-demo: EXTRAS := $(DEMO_EXTRAS)
$(INSTALLED)-dev: EXTRAS := $(DEV_EXTRAS)
$(INSTALLED)-bench: EXTRAS := $(BENCH_EXTRAS)

$(INSTALLED)-demo $(INSTALLED)-dev $(INSTALLED)-bench: $(INSTALLED)-uv pyproject.toml constraints.txt
	@echo "Installing whirr[$(EXTRAS)] into $(VENV); the first time, PyTorch alone is some gigabytes"
	@$(VENV)/bin/uv pip install --quiet --python $(RUN) --constraints constraints.txt --editable ".[$(EXTRAS)]"
	@touch $@

$(INSTALLED)-uv:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
		echo "Whirr needs Python 3.11, 3.12 or 3.13; $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; \
		echo "Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) can't make virtual environments." >&2; \
		echo "On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	@touch $@
