# make demo and make test do everything on a fresh machine with Python 3.11 or newer; make help lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RIVALS := $(VENV)/.rivals
export PATH := $(CURDIR)/$(BIN):$(PATH)
DEMO := --configfile config/demo.yaml

.PHONY: help demo test check format bench clean

help:
	@echo "make demo    install, run the whole pipeline on the embedded digits, write the report"
	@echo "make test    install, run the tests"
	@echo "make check   install, check format, lint and types"
	@echo "make format  install, format the code"
	@echo "make bench   install, run the benchmarks (long on a CPU)"
	@echo "make clean   remove the environment and the demo's results"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[workflow,dev]'
	@touch $@

demo: $(READY)
	snakemake $(DEMO)
	snakemake $(DEMO) --report results/demo/report.html
	@echo
	@cat results/demo/tables/main.md
	@echo
	@echo "Open results/demo/report.html; tables and figures lie in results/demo/tables and results/demo/figures."

# Two processes, a file of tests at a time: tests of a file share what is dear to make, and compute with one thread.
test: $(READY)
	pytest --numprocesses 2 --dist loadfile

check: $(READY)
	ruff format --check .
	ruff check .
	mypy
	snakefmt --check workflow
	snakemake $(DEMO) --lint

format: $(READY)
	ruff format .
	ruff check --fix .
	snakefmt workflow

# What benchmarks compare with is installed for them alone. torchattacks brings a copy of robustbench that takes the place of the
# real one, which is put back.
$(RIVALS): $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[benchmarks]'
	$(BIN)/pip install --quiet --constraint constraints.txt --force-reinstall --no-deps robustbench
	@touch $@

bench: $(RIVALS)
	python benchmarks/attack.py
	python benchmarks/training.py
	python benchmarks/evaluation.py

clean:
	rm -rf $(VENV) results/demo
