# `make smoke` and `make test` are all a new machine needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: smoke test test-fast lab lint bench clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

smoke: $(VENV)/.installed
	rm -rf runs/smoke
	$(BIN)/distmed train --num-workers 1

test: $(VENV)/.installed
	$(BIN)/pytest -m "not lab"

# Several hosts on this machine, a real Slurm, and the table of faults; LAB=short leaves out the long rows, as CI does.
LAB ?= full
LAB_TESTS ?= tests/lab
LAB_SOAK_S ?= $(if $(filter short,$(LAB)),300,1800)
lab: $(VENV)/.installed
	rm -f .lab-figures .lab-report.xml
	LAB=$(LAB) LAB_SOAK_S=$(LAB_SOAK_S) LAB_FIGURES=$(CURDIR)/.lab-figures \
		$(BIN)/pytest -m lab --junit-xml=.lab-report.xml $(LAB_TESTS); status=$$?; \
	$(BIN)/python -m tests.lab.table .lab-report.xml .lab-figures $(if $(filter short,$(LAB)),.,benchmarks); exit $$status

test-fast: $(VENV)/.installed
	$(BIN)/pytest -m "not slow and not lab"

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python benchmarks/train_step.py

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache
