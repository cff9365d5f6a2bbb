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
DEV_EXTRAS := audio,dask,dev,$(DEMO_EXTRAS)
BENCH_EXTRAS := bench,$(DEV_EXTRAS)
UNIT := not slow and not services and not real_services
ARGS ?=
SHORT = $(if $(findstring --short,$(ARGS)),$(ARGS))
comma := ,

.PHONY: help venv demo test test-embedded quick unit coverage lowest lint format hooks docs build wheel-test version release-notes \
	bench bench-compare bench-feast bench-hostile bench-record bench-scale bench-store bench-train fleet profile quality operator drift season false-alarms lifetimes schemas constraints services chaos clean distclean

help: ## List these tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

demo: $(INSTALLED)-demo ## Simulate a plant, train, stream, and print each alert (WAV_DIR=DIR: your recordings)
	@$(RUN) -m examples.demo $(if $(WAV_DIR),--wav-dir "$(WAV_DIR)") $(ARGS)

test: $(INSTALLED)-dev ## Run the tests; what needs a service that is not here is skipped, with the reason
	@$(RUN) -m pytest -n 2 --dist loadgroup $(ARGS)

test-embedded: $(INSTALLED)-dev ## Run the tests that need no Apache Kafka, Redis or PostgreSQL
	@$(RUN) -m pytest -n 2 --dist loadgroup -m "not real_services" $(ARGS)

quick: lint unit ## What every change should pass, in minutes: lint, and the unit tests

unit: $(INSTALLED)-dev ## Run the tests that talk to no service and take no long
	@$(RUN) -m pytest -n 2 --dist loadgroup -m "$(UNIT)" $(ARGS)

coverage: $(INSTALLED)-dev ## Measure which lines the unit tests reach; fails below the floor in pyproject.toml
	@$(RUN) -m pytest -n 2 --dist loadgroup -m "$(UNIT)" --cov --cov-report=term:skip-covered --cov-report=xml:build/coverage.xml $(ARGS)

lowest: $(INSTALLED)-uv ## Run the unit tests on the oldest versions that pyproject.toml allows
	@$(VENV)/bin/uv venv --quiet --clear --python $(RUN) build/lowest
	@$(VENV)/bin/uv pip install --quiet --python build/lowest/bin/python --resolution lowest-direct --editable ".[$(DEV_EXTRAS)]"
	@build/lowest/bin/python -m pytest -n 2 --dist loadgroup -m "$(UNIT)" -W default $(ARGS)

lint: $(INSTALLED)-dev ## Check style, types and who imports whom
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

format: $(INSTALLED)-dev ## Put the code into its one format
	@$(VENV)/bin/ruff check --fix
	@$(VENV)/bin/ruff format

hooks: $(INSTALLED)-dev ## Check style and imports at each commit, types at each push
	@$(VENV)/bin/pre-commit install

docs: $(INSTALLED)-docs ## Build the pages and the API reference as a site: build/site/index.html
	@rm -rf build/docs build/site && mkdir -p build/docs
	@git ls-files --cached --others --exclude-standard -- '*.md' 'docs/*' 'schemas/*.yaml' 'schemas/json/*' ':!.github' \
		| tar -cf - -T - | tar -xf - -C build/docs
	@$(VENV)/bin/zensical build --strict --clean

build: $(INSTALLED)-uv ## Build the wheel and the source distribution into dist/
	@rm -rf dist
	@$(VENV)/bin/uv build --quiet --python $(RUN)

wheel-test: build $(INSTALLED)-dev ## Build the wheel and use it in an environment that holds nothing else
	@WHIRR_TEST_DIST="$(CURDIR)/dist" $(RUN) -m pytest tests/test_wheel.py $(ARGS)

version: ## Print the version
	@sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml

release-notes: ## Print what CHANGELOG.md says of this version
	@awk -v version="$$($(MAKE) --silent version)" \
		'/^## \[/ { ours = index($$2, "[" version "]") == 1; next } ours { print; found = 1 } END { exit !found }' CHANGELOG.md

bench: $(INSTALLED)-bench ## Measure, each figure as a ratio in one run
	@$(RUN) -m benchmarks $(ARGS)

bench-compare: $(INSTALLED)-bench ## Compare each ratio with a stored run (ARGS=--short: the steady ones, in minutes; BASE=FILE; NEW=FILE)
	@mkdir -p bench-out
	@$(if $(NEW)$(SHORT),,$(RUN) -m benchmarks $(ARGS) > bench-out/bench.json)
	@$(if $(and $(NEW),$(SHORT)),echo "NEW=FILE is judged as it is; ARGS=--short measures: give one of them" >&2; exit 1)
	@$(RUN) -m benchmarks.compare "$(or $(BASE),benchmarks/baseline.json)" $(or $(SHORT),"$(or $(NEW),bench-out/bench.json)")

bench-store: $(INSTALLED)-bench ## Measure on a quiet machine, and make it the stored run that bench-compare and fleet take
	@mkdir -p bench-out
	@$(RUN) -m benchmarks $(ARGS) > bench-out/bench.json
	@tail -n 1 bench-out/bench.json > benchmarks/baseline.json
	@$(RUN) -m benchmarks.readme_table
	@$(RUN) -W ignore -m benchmarks.fleet --page docs/scale.md

bench-hostile: $(INSTALLED)-bench ## Measure what honest machines feel of a gateway that sends the costliest frames
	@$(RUN) -W ignore -m benchmarks.hostile $(ARGS)

bench-record: $(INSTALLED)-bench ## Measure how many frames a second are kept, beside what whirr record reads back, and thinning
	@$(RUN) -W ignore -m benchmarks.recording $(ARGS)

bench-scale: $(INSTALLED)-bench ## Run 1, 2 and 4 workers, each held to a share of a core: throughput, lag, joining and leaving
	@$(RUN) -W ignore -m benchmarks.scale $(ARGS)

fleet: $(INSTALLED)-dev ## Plan and simulate a million sensors: what they take, and where the design breaks first (ARGS: assumptions)
	@$(RUN) -W ignore -m benchmarks.fleet $(ARGS)

profile: $(INSTALLED)-bench ## Show where a frame's time goes, stage by stage, from the record to its score and in the event loop
	@$(RUN) -W ignore -m benchmarks.frame_profile

bench-train: $(INSTALLED)-bench ## Time a training on 1,000 clips of ten seconds (ARGS="--epochs 3": a quick look)
	@$(RUN) -W ignore -m benchmarks.training $(ARGS)

bench-feast: $(INSTALLED)-bench ## Measure the feature store: reads, writes, and what pushing costs a worker
	@$(RUN) -W ignore -m benchmarks.features $(ARGS)

quality: $(INSTALLED)-bench ## Train every detector on many machines (ROOT=DIR: real ones) and print what it reaches on others
	@$(RUN) -W ignore -m benchmarks.quality $(if $(ROOT),--root "$(ROOT)") $(ARGS)

chaos: $(INSTALLED)-dev ## Kill, pause and cut off all that can be while frames flow, and count (ARGS=--short: in minutes)
	@$(RUN) -m tests.services fetch >/dev/null
	@$(RUN) -m tests.chaos $(ARGS)

operator: $(INSTALLED)-bench ## Play every row of make quality (ROOT=DIR) live: what is found, when, and what falsely?
	@$(RUN) -W ignore -m benchmarks.operator $(if $(ROOT),--root "$(ROOT)") $(ARGS)

drift: $(INSTALLED)-dev ## Simulate days: how seldom is a drift told wrongly, and how soon is a real one found?
	@$(RUN) -W ignore -m benchmarks.drift

season: $(INSTALLED)-bench ## Play two simulated months of a plant with learning off and on: what is found, what falsely, what learnt?
	@$(RUN) -W ignore -m benchmarks.season $(ARGS)

false-alarms: $(INSTALLED)-bench ## Call what normals of each row raise a false alarm (ROOT=DIR): is the like quiet, and a fault found?
	@$(RUN) -W ignore -m benchmarks.false_alarms $(if $(ROOT),--root "$(ROOT)") $(ARGS)

lifetimes: $(INSTALLED)-bench ## Play bearings run to failure (ROOT=DIR) live: when does the first alert come?
	@$(RUN) -W ignore -m benchmarks.lifetimes $(if $(ROOT),--root "$(ROOT)") $(ARGS)

schemas: $(INSTALLED)-dev ## Write the JSON Schemas from the Python types
	@$(RUN) -m schemas.generate

services: $(INSTALLED)-dev ## Run Apache Kafka, Redis and PostgreSQL for the tests until Ctrl-C
	@$(RUN) -m tests.services run

constraints: $(INSTALLED)-dev ## Resolve every version anew into constraints.txt
	@$(VENV)/bin/uv pip compile --quiet --upgrade pyproject.toml --universal --python-version 3.11 --all-extras \
		--no-header --output-file constraints.txt

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
$(INSTALLED)-docs: EXTRAS := docs

$(INSTALLED)-demo $(INSTALLED)-dev $(INSTALLED)-bench $(INSTALLED)-docs: $(INSTALLED)-uv pyproject.toml constraints.txt
	@echo "Installing whirr[$(EXTRAS)] into $(VENV)$(if $(findstring train,$(EXTRAS)),; the first time$(comma) PyTorch alone is some gigabytes)"
	@$(VENV)/bin/uv pip install --quiet --python $(RUN) --constraints constraints.txt --editable ".[$(EXTRAS)]"
	@$(if $(findstring stream,$(EXTRAS)),$(RUN) -c "from stream_app.pipeline.optional_kernels import find_kernels; find_kernels()")
	@touch $@

$(INSTALLED)-uv:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' || { \
		echo "Whirr needs Python 3.11 to 3.14; $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; \
		echo "Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) can't make virtual environments." >&2; \
		echo "On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	@touch $@
