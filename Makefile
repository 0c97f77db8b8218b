# The two commands that matter: `make demo` runs the main job, `make test` passes the tests.
# Each makes .venv first, with the tested versions in constraints.txt.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
# Two workers of one thread each: most tests are small, and wait more than they compute.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help setup brains demo test test-all test-cluster test-viewer check gpu bench bench-gpu clean

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

setup: $(BIN)/vol3d-test  ## install vol3d and what its tests need into .venv

$(BIN)/vol3d:
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e .

$(BIN)/vol3d-test: $(BIN)/vol3d
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e ".[test]"
	@touch $@

$(BIN)/vol3d-viewer: $(BIN)/vol3d-test
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e ".[viewer]"
	@touch $@

brains: $(BIN)/vol3d  ## four brains and a picture of them, from the model that comes with vol3d
	$(BIN)/vol3d generate ready brains n=4 age=70 sex=F ventricles_ml=45

demo: $(BIN)/vol3d  ## the main job on the embedded cohort
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/demo.sh runs/demo

test: setup  ## trains, kills, resumes, samples and evaluates: whether vol3d works here
	$(PYTEST) -m "not gpu and not slurm and not viewer and not slow"

test-all: setup  ## these and all that prove the rest, the GPU's on the CPU; without SLURM and napari's window
	$(PYTEST) -m "not slurm and not viewer"

test-cluster: setup  ## the tests that start a SLURM on this machine; a few minutes
	$(BIN)/python -m pytest -m slurm

test-viewer: $(BIN)/vol3d-viewer  ## the tests that open a window of napari, on a display of their own; a minute or two
	xvfb-run -a -s "-screen 0 1600x1200x24" env OMP_NUM_THREADS=1 VOL3D_VIEWER=1 $(BIN)/python -m pytest -m viewer tests/viewer

gpu: setup  ## the tests that are for a CUDA device; make test-all runs them on the CPU
	$(BIN)/python -m pytest -m gpu --device cuda $$(grep -rl 'mark\.gpu' tests)

bench: $(BIN)/vol3d  ## vol3d and MONAI with the same weights on the CPU, under 30 minutes on 2 cores with 20 GiB
	$(BIN)/python -m benchmarks.run --device cpu $(BENCH)

bench-gpu: $(BIN)/vol3d  ## the same on a CUDA device
	$(BIN)/python -m benchmarks.run --device cuda $(BENCH)

check: setup  ## style
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev]"
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

clean:  ## remove the environment and all runs
	rm -rf .venv runs
