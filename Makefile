# Every target does its own set-up: environment and caches live inside the clone.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := capabilities serving spaces encryption_network sealspace tee_backend door runner node
# Tests get these variables of the caller and no others, so that they pass or fail alike for everybody.
KEPT := HOME PATH TMPDIR CI PYTHONPYCACHEPREFIX HYPOTHESIS_STORAGE_DIRECTORY REFERENCE_VECTORS SEALSPACE_BUNDLES \
	SEALSPACE_TEST_PYTHON_BASE COMPOSE_SCHEMA CONSOLE_SCREENSHOTS TEST_ENGINE MODEL_SEED FUZZ_EXAMPLES SQL_HTTP_FUZZ
CLEAN := env -i LANG=C.UTF-8 $(foreach name,$(KEPT),$${$(name)+$(name)="$$$(name)"})
# Three for the two cores of CI: for a quarter of their time tests wait for nodes, disks and browsers. A process gets whole
# files: what a file shares is started once, and scheduling takes 10 s instead of 26 s. Without `reorder`, slow files are first.
# A test that hangs fails after five minutes, and says where each thread stands. By a signal: ending the process would have
# pytest-xdist wait for ever.
PYTEST := $(CLEAN) $(BIN)/pytest -q --numprocesses=3 --dist=loadfile --no-loadscope-reorder --timeout=300 --timeout-method=signal
# Stores, the model, load, races, and some forty requests over the wire. The contract of a store, and all tests that start
# a database for themselves, run on PostgreSQL in every run.
ON_POSTGRESQL := tests/spaces tests/model tests/durability/test_load.py tests/attacks/test_races.py \
	tests/attacks/test_admission.py tests/attacks/test_machine_tokens.py \
	tests/conformance/test_complete_exchange.py \
	$(addprefix tests/node/housekeeping/test_,seal_audit.py sweep_delegations.py) \
	$(addprefix tests/spec/test_,network_rules.py node_rules.py value_rules.py)
WITHOUT_A_STORE := $(addprefix tests/spaces/,store archive test_damaged_rows.py test_keyspace.py)
# Type-checked for macOS too: what clients, and commands of owners and verifiers, consist of.
OF_CLIENTS := sealspace tee_backend encryption_network serving capabilities
CONSOLE_TOOLS := .cache/console-tools
WYCHEPROOF := https://github.com/C2SP/wycheproof
WYCHEPROOF_REVISION := dac1dd4729fd1f8dd9e1e9f3dce51d783da6c166
# Half of what the dependencies consist of; no test imports it.
NEVER_IMPORTED := /(pip|setuptools|pkg_resources|mypyc?|backrefs|graphql|pymdownx|griffe|babel|pygments/(lexers|styles)|moto/(?!(core|s3|s3bucket_path|sts|iam|events|cloudwatch|utilities|moto_server|moto_api)/)[^/]+)/

export PIP_CACHE_DIR := $(CURDIR)/.cache/pip
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
# pip asks rustc for its version, and rustup answers by making a folder in the home.
export RUSTUP_HOME := $(CURDIR)/.cache/rustup
# Modules are compiled once for all processes, whatever the environment says: the tests start several hundred, and to
# compile what a node imports takes each of them longer than to run.
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPYCACHEPREFIX := $(CURDIR)/.cache/pycache
export RUFF_CACHE_DIR := $(CURDIR)/.cache/ruff
export HYPOTHESIS_STORAGE_DIRECTORY := $(CURDIR)/.cache/hypothesis

.PHONY: help changes-model demo test test-all test-others test-postgresql costs test-tools check check-others pages docs cast fmt iexec-client wheel reproducible sbom release audit test-wheel bench soak matrix histories rotations models members mutants coverage python-base test-python-base test-image fuzz fuzz-coverage wycheproof lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk 'BEGIN {FS = ":.*## "} {printf "  %-16s %s\n", $$1, $$2}'

$(VENV)/.installed: requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "sealspace needs Python 3.11 to 3.15; on Debian run: apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 16))' || { echo "sealspace needs Python 3.11 to 3.15; run: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python cannot make virtual environments; on Debian run: apt-get install python3-venv" >&2; exit 1; }
	@echo "setting up $(VENV) (about a minute the first time)" >&2
	@$(PYTHON) -m venv $(VENV)
	@# The lock names everything, so pip need not look for more: `check` tells what would be missing. What some packages
	@# bring as templates does not compile.
	@$(BIN)/pip install --quiet --no-deps --no-compile --require-hashes --requirement requirements.lock
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@$(BIN)/pip check >/dev/null || $(BIN)/pip check
	@# Where semaphores are not allowed, one process compiles.
	@jobs=2; $(BIN)/python -c 'import multiprocessing; multiprocessing.Semaphore()' 2>/dev/null || jobs=1; \
	$(BIN)/python -m compileall -qq -j $$jobs -x '$(NEVER_IMPORTED)' $(VENV)/lib || true
	@touch $@

demo: $(VENV)/.installed ## play the story: a secret is stored, granted, opened by approved code and by nobody else
	@$(BIN)/python examples/demo.py

# pytest compiles files of tests in its own way. Done once here, or every process of a first run would compile all of them.
.cache/.compiled-tests: $(VENV)/.installed
	@$(BIN)/pytest --collect-only -qq >/dev/null || true
	@touch $@

# What checks is one process most of the time, so it runs beside the tests, and its output is printed when they have ended.
test: $(VENV)/.installed ## check, and run every test for which Python is enough
	@mkdir -p .cache
	@$(MAKE) --no-print-directory check >.cache/check.log 2>&1 & checks=$$!; \
	tested=0; $(PYTEST) --only-python || tested=$$?; \
	if ! wait $$checks; then cat .cache/check.log; echo "make check failed; its output is above" >&2; exit 1; fi; \
	exit $$tested

test-all: test test-others ## all of that, and the tests that need PostgreSQL, a browser, npm, programs of others, reference vectors or root

test-others: $(VENV)/.installed ## the part of test-all that is not in test; what is not installed is skipped by name
	@$(MAKE) --no-print-directory --jobs=2 --output-sync check-others test-postgresql
	@$(PYTEST) --others

# Each process collects the tests and starts a server for itself, and `check` runs beside them.
test-postgresql: .cache/.compiled-tests ## stores, races and forty requests, with every store in PostgreSQL where that is installed
	@if PYTHONPATH=tests/support $(BIN)/python -c 'import sys; from postgres_server import programs; sys.exit(not programs())'; \
	then export TEST_ENGINE=postgresql; $(PYTEST) --numprocesses=2 $(ON_POSTGRESQL) $(addprefix --ignore=,$(WITHOUT_A_STORE)); \
	else echo "the programs of a PostgreSQL server are not installed: these tests run on LMDB alone"; fi

costs: $(VENV)/.installed ## run the tests of `make test`, and write what they cost into tests/README.md
	@$(PYTEST) --only-python --write-costs

test-tools: $(VENV)/.installed ## the benchmarks, a moment of each; the documentation as a site; the recording of the demo
	@$(PYTEST) tools

check: $(VENV)/.installed ## formatting, lint, types, the order of the packages, reading, generated pages
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python tools/structure.py --check
	@$(BIN)/python tests/house/reading.py --check
	@$(BIN)/python tools/pages --check
	@$(BIN)/python tools/sync_stubs.py --check
	@$(BIN)/stubtest --concise sealspace.sync

check-others: $(VENV)/.installed ## types on macOS, and of the console where npm is
	@$(BIN)/mypy --platform darwin --no-warn-unreachable --cache-dir .cache/mypy-darwin $(addprefix --package=,$(OF_CLIENTS))
	@if ! { command -v node && command -v npm; } >/dev/null; then echo "node or npm is not installed: types of the console are not checked"; \
	elif ! $(MAKE) --silent --no-print-directory $(CONSOLE_TOOLS)/.installed; then echo "npm could not install TypeScript: types of the console are not checked"; \
	else $(CONSOLE_TOOLS)/node_modules/.bin/tsc --project tests/console/tsconfig.json; fi

# Only what its lock file names, by hashes; no script of a package runs, and nothing is written to the home.
$(CONSOLE_TOOLS)/.installed: tests/console/package.json tests/console/package-lock.json
	@mkdir -p $(CONSOLE_TOOLS)
	@cp $^ $(CONSOLE_TOOLS)
	@npm ci --prefix $(CONSOLE_TOOLS) --cache "$(CURDIR)/.cache/npm" --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error >/dev/null
	@touch $@

pages: $(VENV)/.installed ## write the generated pages, and generated parts of pages
	@$(BIN)/python tools/pages --write
	@$(BIN)/python tools/sync_stubs.py --write

docs: $(VENV)/.installed ## build the documentation as a site into .cache/site; needs no network
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

cast: $(VENV)/.installed ## record the demo into docs/demo.cast
	@$(BIN)/python tools/pages/demo_cast.py

fmt: $(VENV)/.installed ## rewrite the code in the house style
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

iexec-client: ## install iExec's own client, whose test is skipped without it (needs npm and the network)
	@mkdir -p .cache/iexec
	@npm install --prefix .cache/iexec --cache "$(CURDIR)/.cache/npm" --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error iexec@9.0.1 >/dev/null

# Files in archives get the time of the commit, so that the same commit is built to the same bytes anywhere. Without a
# commit they get the time that hatchling has for this.
BUILD = SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null || echo 1580601600)} $(BIN)/python -m build --no-isolation --outdir dist

PYTHON_BASE := .cache/python-base/python-base.wasm

# For x86-64 Linux, with cc; the package index is asked for componentize-py. The sources name the hash that comes out.
python-base: $(VENV)/.installed ## build the component that runs programs in Python
	@mkdir -p $(dir $(PYTHON_BASE))
	@$(BIN)/python tools/python_base/build.py $(PYTHON_BASE)

test-python-base: python-base ## test the Python base; these tests are skipped without it
	@SEALSPACE_TEST_PYTHON_BASE="$(CURDIR)/$(PYTHON_BASE)" $(BIN)/pytest -q tests/guests/test_python_base.py

wheel: $(VENV)/.installed ## build the wheel into dist
	@rm -rf dist
	@$(BUILD) --wheel . >/dev/null
	@ls dist/*.whl

reproducible: $(VENV)/.installed ## build the wheel and the source archive twice, in different surroundings, and compare their bytes
	@$(BIN)/python tools/reproducible.py

sbom: $(VENV)/.installed ## write the dependencies as CycloneDX into dist
	@mkdir -p dist
	@$(BIN)/python tools/sbom.py >dist/sealspace-sbom.json
	@ls dist/sealspace-sbom.json

release: wheel python-base ## also build the source archive, the list of the wheel's files, the SBOM, the Python base, and the image, into dist (needs podman)
	@$(BUILD) --sdist . >/dev/null
	@$(BIN)/python tools/wheel_records.py dist/sealspace-*.whl >dist/sealspace-files.txt
	@$(BIN)/python tools/sbom.py >dist/sealspace-sbom.json
	@cp $(PYTHON_BASE) dist/
	@command -v podman >/dev/null || { echo "release needs podman; run: apt-get install --no-install-recommends podman" >&2; exit 1; }
	@podman build --quiet --format docker --file examples/deploy/Containerfile --tag sealspace . >/dev/null
	@podman save --quiet --format docker-archive --output dist/sealspace-image.tar sealspace
	@ls dist

test-wheel: ## install the wheel of dist into a fresh environment, and play the story with it
	@$(PYTHON) -m venv --clear .cache/wheel
	@.cache/wheel/bin/pip install --quiet --require-hashes --requirement requirements.lock
	@.cache/wheel/bin/pip install --quiet --no-deps --no-index dist/sealspace-*.whl
	@cd .cache && wheel/bin/sealspace version && wheel/bin/python ../examples/demo.py

# A known vulnerability is no fault of a change, so this is not part of `check`. It asks the package index about each package.
audit: ## look for known vulnerabilities of the locked packages (needs the network)
	@$(PYTHON) -m venv --clear .cache/audit
	@.cache/audit/bin/pip install --quiet --no-deps --require-hashes --requirement tools/audit.lock
	@.cache/audit/bin/pip-audit --strict --disable-pip --require-hashes --progress-spinner off --requirement requirements.lock

bench: $(VENV)/.installed ## CPU time per request, of a node that it starts on loopback; plots in .cache/bench (BENCH="--against COMMIT" compares)
	@$(BIN)/python tools/benchmarks/requests_per_cpu.py --out .cache/bench $(BENCH)

soak: $(VENV)/.installed ## kill the node under load, many times, and look for a lost write; the largest values; thousands of races
	@$(BIN)/pytest -q -p no:randomly --override-ini=addopts= --import-mode=importlib tests/soak/soak_*.py

matrix: $(VENV)/.installed ## compare the node's authorisation with an oracle on 20,000 requests, and print what they covered
	@$(BIN)/pytest -q -s -p no:randomly --override-ini=addopts= --import-mode=importlib tests/soak/soak_matrix.py

# Longer by the command line: make histories OPERATIONS=100000 KILLS=1000 SEED=7. Root, mkfs.ext4, PostgreSQL and libfaketime
# each add faults; what is missing is said.
histories: $(VENV)/.installed ## check histories of callers while processes, disk, power, clock, network and database fail
	@HISTORIES_SEED=$(SEED) HISTORIES_OPERATIONS=$(OPERATIONS) HISTORIES_KILLS=$(KILLS) $(BIN)/pytest -q -s -rs -p no:randomly --override-ini=addopts= --import-mode=importlib tests/soak/soak_fault_histories.py

# Longer by the command line: make rotations SECRETS=10000 KILLS=50 SEED=7. SHARED bounds the number of secrets with copies.
rotations: $(VENV)/.installed ## replace a network's key while the commands are killed, and compare every value
	@ROTATIONS_SEED=$(SEED) ROTATIONS_SECRETS=$(SECRETS) ROTATIONS_KILLS=$(KILLS) ROTATIONS_SHARED=$(SHARED) $(BIN)/pytest -q -s -p no:randomly --override-ini=addopts= --import-mode=importlib tests/soak/soak_key_rotation.py

# CHANGES is the number of commits in each case.
CHANGES ?= 20000
changes-model: $(VENV)/.installed ## readers of changes beside writers on each engine, for longer than in the suite
	@CHANGES_MODEL_COMMITS=$(CHANGES) $(BIN)/pytest -q -p no:randomly --override-ini=addopts= --import-mode=importlib tests/spaces/values/test_changes.py

models: $(VENV)/.installed ## search all states of the model of releases, with and without each guard (needs spin and cc)
	@$(BIN)/pytest -q -s -p no:randomly --override-ini=addopts= --import-mode=importlib tests/soak/soak_release_model.py

# Longer by the command line: make members SEQUENCES=1000 SEED=7.
members: $(VENV)/.installed ## change the members of a team at random, and compare what everybody reads and writes
	@MEMBER_SEED=$(SEED) MEMBER_SEQUENCES=$(or $(SEQUENCES),300) $(BIN)/pytest -q -s -n 0 -p no:randomly tests/attacks/test_member_changes.py

# What cosmic-ray needs beside the lock. Results are kept, and a run that was stopped continues. MUTANTS names modules, or
# options: make mutants MUTANTS=capabilities/chain.py, make mutants MUTANTS=--again, make mutants MUTANTS="--sample 200 --seed 7".
.cache/mutants/.installed: tools/mutants.lock $(VENV)/.installed
	@rm -rf .cache/mutants/packages
	@$(BIN)/pip install --quiet --no-deps --require-hashes --target .cache/mutants/packages --requirement tools/mutants.lock
	@touch $@

mutants: .cache/mutants/.installed ## change the modules that guard in one place at a time, and look for a test that fails
	@PYTHONPATH=.cache/mutants/packages nice -n 19 $(BIN)/python tools/mutants.py $(MUTANTS)

COVERED := capabilities encryption_network
COVERAGE := PYTHONPATH=.cache/coverage/packages nice -n 19 $(BIN)/python -m coverage
.cache/coverage/.installed: tools/coverage.lock $(VENV)/.installed
	@rm -rf .cache/coverage
	@$(BIN)/pip install --quiet --no-deps --require-hashes --target .cache/coverage/packages --requirement tools/coverage.lock
	@touch $@

coverage: .cache/coverage/.installed ## lines and branches of two packages that their own tests run: in all, and of the ten modules with the fewest
	@$(COVERAGE) run --rcfile=/dev/null --data-file=.cache/coverage/data --branch $(addprefix --source=,$(COVERED)) -m pytest -q --numprocesses=0 $(addprefix tests/,$(COVERED))
	@$(COVERAGE) report --rcfile=/dev/null --data-file=.cache/coverage/data --sort=cover --precision=1 --show-missing --skip-empty | awk 'NR <= 12 || /^TOTAL/'

test-image: $(VENV)/.installed ## build the Containerfile on a clean Debian root, and run its node (as root)
	@for tool in mmdebstrap buildah bwrap; do command -v $$tool >/dev/null || { echo "test-image needs $$tool; run: apt-get install --no-install-recommends mmdebstrap buildah bubblewrap" >&2; exit 1; }; done
	@$(BIN)/pytest -q -s -p no:randomly --override-ini=addopts= --import-mode=importlib tests/soak/clean_root.py

fuzz: $(VENV)/.installed ## throw bytes at every parser for some minutes
	@FUZZ_EXAMPLES=20000 SQL_HTTP_FUZZ=20000 $(BIN)/pytest -q -k fuzz

# What atheris needs beside the lock. FUZZ names targets, or options: make fuzz-coverage FUZZ="--seconds 600 quotes",
# make fuzz-coverage FUZZ="--seconds 0 --keep".
.cache/fuzz/.installed: tools/fuzz.lock $(VENV)/.installed
	@rm -rf .cache/fuzz/packages
	@$(BIN)/pip install --quiet --no-deps --require-hashes --target .cache/fuzz/packages --requirement tools/fuzz.lock
	@touch $@

fuzz-coverage: .cache/fuzz/.installed ## throw bytes at every parser for an hour, guided by the branches that they reach
	@PYTHONPATH=.:tests:tests/support:tools nice -n 19 $(BIN)/python tools/fuzz_coverage.py $(FUZZ)

# The folder of the reference vectors is replaced by one that has only this project's.
wycheproof: $(VENV)/.installed ## run Project Wycheproof's vectors for signatures, keys and ciphers (needs git and the network)
	@rm -rf .cache/wycheproof && git init --quiet .cache/wycheproof/project
	@git -C .cache/wycheproof/project fetch --quiet --depth 1 $(WYCHEPROOF) $(WYCHEPROOF_REVISION)
	@git -C .cache/wycheproof/project checkout --quiet FETCH_HEAD
	@mkdir .cache/wycheproof/vectors && ln -s ../project/testvectors_v1 .cache/wycheproof/vectors/wycheproof
	@REFERENCE_VECTORS="$(CURDIR)/.cache/wycheproof/vectors" $(BIN)/pytest -q -m shared tests/capabilities/test_wycheproof.py tests/encryption_network/test_keywrap.py

lock: ## resolve the dependencies anew into requirements.lock (needs uv)
	@uv pip compile pyproject.toml --all-extras --generate-hashes --no-header --no-annotate --no-emit-index-url --universal --python-version 3.11 --output-file requirements.lock --quiet

clean: ## remove the environment and every cache
	@rm -rf $(VENV) .cache .hypothesis
