# Everything below works on a machine with Python 3.10+ (tested: 3.11) and make; the first target run installs into .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Small networks run fastest on one thread a process, and an idle second thread only gets in the way.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test lint docs coverage audit bench clean

demo: $(INSTALLED)
	$(BIN)/clearbeam demo --out demo

test: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/mypy

# The site, in site/: open site/index.html. It loads nothing from other machines.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Lines that tests run, those of the processes that tests start too.
coverage: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --cov --cov-report term:skip-covered

# Known vulnerabilities of the pinned packages; asks PyPI.
audit:
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/pip install --quiet pip-audit
	$(VENV)-audit/bin/pip-audit -r constraints.txt --no-deps --disable-pip --strict

bench: $(INSTALLED)
	for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) $(VENV)-audit build dist *.egg-info demo site

# PESQ is published as C source only: without a compiler its column is left out and its tests skip.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@$(BIN)/pip install --quiet --constraint constraints.txt pesq >$(VENV)/pesq.log 2>&1 \
		|| echo "PESQ is left out: no C compiler here (details in $(VENV)/pesq.log)"
	touch $@
