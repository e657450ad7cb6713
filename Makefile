# make demo and make test do everything on a fresh machine with Python 3.11 or newer; make help lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RIVALS := $(VENV)/.rivals
DOCS := $(VENV)/.docs
export PATH := $(CURDIR)/$(BIN):$(PATH)
DEMO := --configfile config/demo.yaml

.PHONY: help demo test test-long test-whole test-slurm test-slurm-long soak slurm gpu-check gpu-bench check format docs links bench golden archive clean

help:
	@echo "make demo    install, run the whole pipeline on the embedded digits, write the report"
	@echo "make test    install, run the tests"
	@echo "make test-long   install, run the tests that take minutes: examples, damaged files"
	@echo "make test-whole  install, run whole experiments: the wheel alone, kills, regimes, the demo of transfers"
	@echo "make test-slurm  install, and Slurm if root; run the workflow on a real Slurm of one node (not its long tests)"
	@echo "make soak    install, and Slurm if root; kill jobs of a grid at random: SOAK_MINUTES=10 SOAK_CELLS=24"
	@echo "make gpu-check   install, run every stage on a GPU next to the CPU; without a GPU, a rehearsal"
	@echo "make gpu-bench   install, print one table about a GPU; without a GPU, a rehearsal"
	@echo "make check   install, check format, lint and types"
	@echo "make format  install, format the code"
	@echo "make golden  compare the demo's numbers with those of another commit: make golden BEFORE=REVISION"
	@echo "make archive pack an experiment into one file for a paper: make archive RESULTS=results/NAME"
	@echo "make docs    install, build the documentation site"
	@echo "make links   install, look up every address that the pages name outside (needs a network)"
	@echo "make bench   install, run the benchmarks (long on a CPU)"
	@echo "make clean   remove the environment and the demo's results"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[workflow,slurm,kubernetes,dev]'
	@touch $@

demo: $(READY)
	rift run config/demo.yaml
	@echo
	@cat results/demo/tables/main.md
	@echo
	@echo "Open results/demo/report.html; tables and figures are in results/demo/tables and results/demo/figures."

# Two processes, one file of tests at a time: tests of a file share fixtures that take long, and compute with one thread.
test: $(READY)
	pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -m "not long and not whole and not slurm and not gpu"

test-long: $(READY)
	pytest --numprocesses 2 --dist loadfile -m "long and not slurm"

# The wheel alone, killed experiments, all regimes, the demo of transfers: too long for .ci/run, and to be run before a release.
test-whole: $(READY)
	pytest --numprocesses 2 --dist loadfile -m whole

# Where there is no Slurm, the tests are skipped, and say why.
test-slurm: $(READY) slurm
	pytest -m "slurm and not long" -rs tests/slurm

# Faults that take minutes each: a broken node, memory, time limits, orphans, a short soak.
test-slurm-long: $(READY) slurm
	pytest -m "slurm and long" -rs tests/slurm

# Both need only torch and what constraints.txt names, and end within eight minutes on one GPU.
gpu-check: $(READY)
	pytest -m gpu -rs tests/gpu

gpu-bench: $(READY)
	python benchmarks/gpu.py

# Ends by itself after SOAK_MINUTES with kills and the rest of the run, and after 100 minutes whatever happens.
SOAK_MINUTES ?= 10
SOAK_CELLS ?= 24
soak: $(READY) slurm
	python -m tests.slurm.soak --minutes $(SOAK_MINUTES) --cells $(SOAK_CELLS)

# Slurm needs the distribution's packages, root and Linux. RUNLEVEL keeps apt from starting daemons.
slurm:
	@if ! command -v slurmctld > /dev/null && command -v apt-get > /dev/null && [ "$$(id -u)" = 0 ]; then \
		echo "installing slurm-wlm and munge"; \
		{ apt-get update && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends slurm-wlm munge; } \
		> /dev/null 2>&1 < /dev/null || echo "they could not be installed"; \
	fi

check: $(READY)
	ruff format --check .
	ruff check .
	mypy
	snakefmt --check workflow
	@echo "snakemake --lint"  # rules have no conda environment: rift itself must be installed, which such a file cannot do
	@! { snakemake $(DEMO) --lint 2>&1 | grep '^    \* ' | grep --invert-match 'Specify a conda environment'; }

format: $(READY)
	ruff format .
	ruff check --fix .
	snakefmt workflow

# Packages that benchmarks compare with are installed for them alone. torchattacks overwrites robustbench with a copy of its own;
# the second command restores it.
$(RIVALS): $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[benchmarks]'
	$(BIN)/pip install --quiet --constraint constraints.txt --force-reinstall --no-deps robustbench
	@touch $@

bench: $(RIVALS)
	python benchmarks/attack.py
	python benchmarks/training.py
	python benchmarks/evaluation.py

# Warnings are errors: every link within the pages leads somewhere. make links looks up addresses outside.
docs: $(DOCS)
	rm -rf site
	sphinx-build -q -W --keep-going -b html -c docs/site . site
	@echo "Open site/index.html."

links: $(DOCS)
	sphinx-build -q -b linkcheck -c docs/site . site/links

$(DOCS): $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

# Equal settings must give equal numbers, bit for bit on one machine: both commits run the demo, each from its own checkout.
BEFORE ?= HEAD
golden: $(READY)
	rm -rf results/golden && mkdir -p results/golden
	git worktree add --force --detach results/golden/before $(BEFORE)
	cd results/golden/before && PYTHONPATH=$$PWD snakemake $(DEMO)
	rm -rf results/demo && snakemake $(DEMO)
	python tests/golden.py write results/golden/before/results/demo results/golden/demo.json
	git worktree remove --force results/golden/before
	python tests/golden.py compare results/demo results/golden/demo.json

# Equal results give equal bytes; results that are incomplete or do not belong together are refused.
RESULTS := results/demo
ARCHIVE := $(RESULTS).zip
archive: $(READY)
	rift archive $(RESULTS) --output $(ARCHIVE)

clean:
	rm -rf $(VENV) results/demo site docs/generated
