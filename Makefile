# Every target sets up what it needs first: minutes once, under a second from then on.
STACK  ?= onedl
TASK   ?= detection
ARGS   ?=

VENV_onedl     := .venv
VENV_openmmlab := .venv-openmmlab
VENV := $(VENV_$(STACK))
PY   := $(VENV)/bin/python
# An environment that is there stays with the Python it was made with.
PYTHON ?= $(or $(realpath $(PY)),python3)

.DEFAULT_GOAL := help
.PHONY: help install demo bench test faults docs lint format clean

help: ## Show this list
	@echo 'Usage: make TARGET [VARIABLE=value]'
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo '  STACK     onedl (default) or openmmlab: which OpenMMLab packages'
	@echo '  TASK      detection (default), instance, segmentation or transfer: what demo trains'
	@echo '  ARGS      more arguments for test or bench, e.g. ARGS="-m smoke"'
	@echo '  PYTHON    the Python that makes the environment (default: python3)'

# The version is looked at here, because the script itself needs a Python that can read it.
install: ## Make or repair the environment (.venv, or .venv-openmmlab)
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed: make install PYTHON=python3.12" if sys.version_info < (3, 10) else 0)'
	@$(PYTHON) -u tools/maintenance/make_environment.py --stack $(STACK)

demo: install ## Make data, train, evaluate and draw, in minutes on a CPU
	$(PY) tools/demo/demo.py --task $(TASK)

bench: install ## Compare speed and memory with timm and mmpretrain, in minutes on a CPU
	$(PY) -m benchmarks.backbones $(ARGS)

# Four at most, because each imports three libraries and some start processes of their own.
test: install ## Run the tests; ARGS="-m exhaustive" runs those of the largest models
	OMP_NUM_THREADS=1 $(PY) -m pytest -n auto --maxprocesses 4 --dist worksteal $(ARGS)

faults: install ## Kill and break training runs, and see that nothing is lost (20 minutes)
	OMP_NUM_THREADS=1 $(PY) -m pytest -n auto --maxprocesses 2 -m faults $(ARGS)

docs: install ## Build the documentation into site/; it needs no network
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet
	@echo 'Open site/index.html'

lint: install ## Check style and formatting
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: install ## Fix style and formatting
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean: ## Remove build outputs and caches; environments and work_dirs/ stay
	rm -rf build dist site *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name '.venv*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
