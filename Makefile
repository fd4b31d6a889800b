# Needs Python >= 3.11 and make; everything else is installed into .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3)
VENV   := .venv
STAMP  := $(VENV)/installed.stamp
BIN    := $(VENV)/bin
JOBS   ?= 2
SEED   ?= 0
KILLS  ?= 30
GROUND ?= crash-ground
MINUTES ?= 10

.DEFAULT_GOAL := help
.PHONY: help install demo test crash fuzz lint clean
.DELETE_ON_ERROR:

help:
	@echo "make install   create or update $(VENV) with the versions of constraints.txt"
	@echo "make demo      install, then the whole flow on a rendered town"
	@echo "make test      install, then the test suite"
	@echo "make crash     death at every step of a store; a batch of kills of runs (SEED=0 KILLS=30) and of parts of up; full disks and the like; pages drawn without pause"
	@echo "make fuzz      mutations of files from outside (MINUTES=10 of each reader, or of READER=name alone)"
	@echo "make lint      ruff (check and format) and mypy"
	@echo "make clean     remove $(VENV) and every build and cache folder"

install: $(STAMP)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is missing or older than 3.11: install Python 3.11, or name one with make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m ensurepip --version >/dev/null 2>&1 || \
	  { echo "$(PYTHON) cannot create virtual environments (no ensurepip): install its venv package, on Debian or Ubuntu: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[browse,demo,dev]'
	@touch $@

demo: install
	$(BIN)/retrieval-sfm demo

test: install
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile

crash: install
	$(BIN)/python -m tests.crash.steps
	$(BIN)/python -m tests.crash.campaign --seed $(SEED) --kills $(KILLS) --ground $(GROUND)
	$(BIN)/python -m tests.crash.troubles --ground $(GROUND)
	$(BIN)/python -m tests.crash.pages --ground $(GROUND)
	$(BIN)/python -m tests.crash.kill_served

fuzz: install
	$(BIN)/python -m tests.fuzz.campaign --minutes $(MINUTES) $(if $(READER),--reader $(READER))

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-store demo-photos demo-photos-truth.h5 demo-photos-town.json crash-ground
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
