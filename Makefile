SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON ?= python3
PYTEST_ARGS ?=
FUZZ_ARGS ?=
# a network of your own for `make demo`; without these it is the official yolov3-tiny
CFG ?=
WEIGHTS ?=

python := .venv/bin/python
pip_install := $(python) -m pip install -qq --disable-pip-version-check --no-input
stamps := .venv/stamps
# whole files to each core, since some tests use what the one before them wrote; one BLAS thread for each
parallel := -n auto --dist loadfile

# $(call need_debian,PACKAGES): installs them where it may, else says how
define need_debian
if ! command -v apt-get >/dev/null; then \
	echo "make: this needs what Debian calls $(1); install it and run make again" >&2; exit 1; \
elif [ "$$(id -u)" = 0 ]; then as_root=(); \
elif sudo -n true 2>/dev/null; then as_root=(sudo -n); \
else \
	echo "make: a system package is missing; run:  sudo apt-get update && sudo apt-get install -y $(1)" >&2; exit 1; \
fi; \
echo "installing $(1)"; \
{ "$${as_root[@]}" apt-get -qq update && \
"$${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $(1) </dev/null >/dev/null; } || \
{ echo "make: apt-get failed; run:  apt-get update && apt-get install -y $(1)" >&2; exit 1; }
endef

.PHONY: help demo test test-fast fuzz lint format caffe bench proto clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "PYTHON=python3.12 chooses another Python (3.10 or newer; make clean first)."
	@echo "CFG=a.cfg WEIGHTS=a.weights shows the demo on a network of yours."
	@echo "PYTEST_ARGS='-k fold -x' is handed to pytest."
	@echo "FUZZ_ARGS='darknet --count 500' is handed to the fuzzer."

demo: $(stamps)/run ## official yolov3-tiny: fetched, prepared and proven equal, without Caffe
	@if [ -n "$(CFG)$(WEIGHTS)" ]; then \
		[ -n "$(CFG)" ] && [ -n "$(WEIGHTS)" ] || { echo "make: CFG and WEIGHTS go together; give both" >&2; exit 2; }; \
		inputs=("$(CFG)" "$(WEIGHTS)"); \
	else \
		fetched=$$($(python) examples/fetch_models.py yolov3-tiny); mapfile -t inputs <<<"$$fetched"; \
	fi; \
	stem=$$(basename "$${inputs[0]}" .cfg); mkdir -p demo; \
	echo "python -m nnie_prep prepare $${inputs[*]} -o demo/$$stem"; \
	$(python) -m nnie_prep prepare "$${inputs[@]}" -o "demo/$$stem"

test: $(stamps)/test $(stamps)/caffe ## the whole suite; builds pycaffe from source the first time
	@OPENBLAS_NUM_THREADS=1 $(python) -m pytest $(parallel) $(PYTEST_ARGS)

test-fast: $(stamps)/test ## the suite without what needs Caffe or is slow, in under a minute
	@OPENBLAS_NUM_THREADS=1 $(python) -m pytest $(parallel) -m "not caffe and not slow" $(PYTEST_ARGS)

fuzz: $(stamps)/test ## ten thousand damaged files of each kind: converted or refused, nothing else
	@$(python) tests/fuzz.py $(FUZZ_ARGS)

lint: $(stamps)/lint ## ruff, mypy --strict, and that the generated schema is up to date
	@$(python) -m ruff check .
	@$(python) -m ruff format --check .
	@$(python) -m mypy
	@$(python) proto/generate.py --check

format: $(stamps)/lint ## let ruff format the code
	@$(python) -m ruff check --fix .
	@$(python) -m ruff format .

caffe: $(stamps)/caffe ## pycaffe, built from source into .venv (the wheel is kept in ~/.cache)

bench: $(stamps)/run ## speed and memory on a 248 MB yolov3, as ratios; fails where a target is missed
	@$(python) tests/bench/bench.py

proto: $(stamps)/run ## generate the schema's Python module anew
	@$(python) proto/generate.py

include docker/image.mk

clean: ## remove .venv, the demo and all caches in this folder (not what is kept in ~/.cache)
	@rm -rf .venv demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -path ./.git -prune -o -type d -name __pycache__ -exec rm -rf {} +

$(stamps)/venv:
	@command -v $(PYTHON) >/dev/null || { \
		echo "make: there is no $(PYTHON); install python3 3.10 or newer, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@version=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "make: $(PYTHON) is $$version, and nnie_prep needs 3.10 or newer; name one: make PYTHON=/path/to/python3" >&2; exit 1; }; \
	if ! $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null; then $(call need_debian,python$$version-venv); fi; \
	rm -rf .venv; $(PYTHON) -m venv .venv
	@mkdir -p $(stamps); touch $@

# Each set of packages follows the one before it, so that an edited pyproject.toml renews them all.
$(stamps)/run: pyproject.toml $(stamps)/venv
	@echo "installing nnie_prep into .venv"
	@$(pip_install) -e .
	@touch $@

$(stamps)/test: $(stamps)/run
	@echo "installing what the tests need"
	@$(pip_install) -e '.[test]'
	@touch $@

$(stamps)/lint: $(stamps)/run
	@echo "installing what the linters need"
	@$(pip_install) -e '.[lint]'
	@touch $@

$(stamps)/caffe: $(stamps)/run $(shell find docker/caffe -type f -not -name '*.pyc')
	@wheel=$$($(python) docker/caffe/build.py | tail -n 1); \
	echo "installing $${wheel##*/} into .venv"; \
	$(pip_install) "$$wheel"; \
	GLOG_minloglevel=2 $(python) -c 'import caffe'
	@touch $@
