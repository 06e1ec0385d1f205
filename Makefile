# The tasks of this project, for people and for CI. `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help install services demo test test-fast test-all test-engine test-flink test-cluster test-browser browser mlflow lint format docs lock measurements bench clean
PYTHON_RUN := .venv/bin/python
# Two processes, a file each at a time; the whole runs, which take longest, first.
PYTEST := $(PYTHON_RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=15 tests/end_to_end tests
BROWSER_PYTEST := .tools/browser/bin/python -m pytest -n 2 --noconftest -p no:cacheprovider \
  -p tests.browser.chromium tests/browser
# Of `make test-flink`: where each task manager finds its workers, and a folder that all of them see at the same path.
FLINK_WORKERS = localhost:50000
FLINK_FOLDER = /tmp
FLINK_ARGS = --runner=FlinkRunner --flink_version=1.20 --flink_master=$(FLINK_MASTER) --parallelism=2 \
  --environment_type=EXTERNAL --environment_config=$(FLINK_WORKERS)
# Of `make test-cluster`: `real`, the one of KFP_ENDPOINT or the kubeconfig, or `stand-in`, one in processes here.
TEST_CLUSTER ?= real

help: ## list the tasks
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

install: ## set up .venv with the locked environment
	@deploy/install.sh

services: ## install the servers and the browser that some tests start, as root (Debian: MariaDB, chromium)
	@if ! command -v mariadb-install-db >/dev/null || ! command -v my_print_defaults >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install --yes -qq --no-install-recommends \
	  mariadb-server-core mariadb-client-core >/dev/null; fi
	@if ! command -v chromium >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install --yes -qq --no-install-recommends \
	  chromium fonts-dejavu-core >/dev/null; fi

demo: install ## draw sample photos, train, compare and push a model from them
	@.venv/bin/warmstart sample sample
	@.venv/bin/warmstart run --config cats_vs_dogs --data sample/cats_vs_dogs --root runs/demo

test: install ## the tests of every change
	$(PYTEST) -m "not release"

test-fast: install ## of those, the ones that need no whole pipeline run
	$(PYTEST) -m "not slow and not release"

test-all: browser mlflow ## all tests, as before a release
	$(PYTEST)
	$(BROWSER_PYTEST)

test-engine: install ## a run on Beam's portable runner, or on ENGINE_ARGS="--runner=...", against a local one
	ENGINE_ARGS="$(ENGINE_ARGS)" $(PYTHON_RUN) -m pytest --durations=5 tests/end_to_end/test_beam_engine.py

test-flink: ## the same on the Flink cluster at FLINK_MASTER=HOST:PORT (deploy/README.md says what it needs)
	@if [ -z "$(FLINK_MASTER)" ]; then \
	  echo "make test-flink needs the cluster: make test-flink FLINK_MASTER=HOST:PORT" >&2; exit 2; fi
	@TMPDIR="$(FLINK_FOLDER)" $(MAKE) test-engine \
	  ENGINE_ARGS="$(FLINK_ARGS)$(if $(FLINK_JAR), --flink_job_server_jar=$(FLINK_JAR))"

test-cluster: ## a model's story on the Kubeflow Pipelines of KFP_ENDPOINT or the kubeconfig, or on TEST_CLUSTER=stand-in
	@if [ "$(TEST_CLUSTER)" = real ] && [ -z "$(WARMSTART_IMAGE)" ]; then \
	  echo "make test-cluster needs the image on the cluster: WARMSTART_IMAGE=... (deploy/README.md)" >&2; exit 2; fi
	@$(MAKE) install
	TEST_CLUSTER="$(TEST_CLUSTER)" $(PYTHON_RUN) -m pytest --durations=10 tests/end_to_end/test_cluster.py

test-browser: browser ## the pages in Debian's chromium (make services installs it)
	$(BROWSER_PYTEST) -m "not release"

browser: install # the environment that drives it
	@.tools/bin/uv venv --quiet --allow-existing --python $(PYTHON_RUN) .tools/browser
	@.tools/bin/uv pip sync --quiet --python .tools/browser/bin/python tests/requirements-browser.txt

mlflow: install # the environment of the server that tests of tracking start
	@.tools/bin/uv venv --quiet --allow-existing --python $(PYTHON_RUN) .tools/mlflow
	@.tools/bin/uv pip sync --quiet --python .tools/mlflow/bin/python tests/requirements-mlflow.txt

lint: install ## ruff and mypy on our own code
	$(PYTHON_RUN) -m ruff check
	$(PYTHON_RUN) -m ruff format --check
	$(PYTHON_RUN) -m mypy

format: install ## let ruff rewrite the code
	$(PYTHON_RUN) -m ruff check --fix
	$(PYTHON_RUN) -m ruff format

docs: install ## write the help texts and the keys of the configuration into docs/
	$(PYTHON_RUN) -m docs.generate

lock: install ## resolve the dependencies anew and write requirements.lock
	.tools/bin/uv lock --quiet --upgrade --python $(PYTHON_RUN)
	.tools/bin/uv export --quiet --frozen --all-extras --no-emit-project --no-annotate --no-header \
	  --format requirements.txt --output-file requirements.lock

measurements: install ## measure the numbers that README shows, and write them there
	$(PYTHON_RUN) -m benchmarks.measurements $(PARTS)

bench: install ## time each step of the demo
	$(PYTHON_RUN) -m benchmarks.step_times

clean: ## remove the environment and everything the demo made
	rm -rf .venv .tools sample runs
