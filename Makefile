# Everything below works on a machine with Python 3.10+ (tested: 3.11) and make; the first target run installs into .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Small networks run fastest on one thread a process, and an idle second thread only gets in the way.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test lint bench clean

demo: $(INSTALLED)
	$(BIN)/clearbeam demo --out demo

test: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(INSTALLED)
	for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) build dist *.egg-info demo

# PESQ is published as C source only: without a compiler its column is left out and its tests skip.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@$(BIN)/pip install --quiet --constraint constraints.txt pesq >$(VENV)/pesq.log 2>&1 \
		|| echo "PESQ is left out: no C compiler here (details in $(VENV)/pesq.log)"
	touch $@
