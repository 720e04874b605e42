# Every target sets itself up first: `make test` on a fresh machine needs Python 3.11 or newer, pip and make, nothing else.
# Everything lands in .venv, inside this folder; remove that folder to start afresh.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint docs bench lmms-parity test-minimal test-newest

BIN := .venv/bin

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  \1\t/p' Makefile | expand -t 16
	@echo 'Another Python: make PYTHON=/path/to/python <target>'

setup: .venv/.installed  ## install ppl and its development tools into .venv

demo: .venv/.installed  ## the whole path on made-up videos: train, compare, answer, draw
	@$(BIN)/python -m benchmarks.demo

test: .venv/.installed  ## the default tests
	-@bash .ci/browser
	@echo 'Screenshots of the web page go to runs/screenshots'
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

test-slow: .venv/.installed  ## the tests that take longer than a minute each
	-@bash .ci/browser
	@$(BIN)/python -m pytest -m slow

test-minimal: .venv/.installed  ## a selection of the tests on the oldest versions allowed, without extras, in .venv-minimal
	@bash .ci/lane minimal

test-newest: .venv/.installed  ## the same on the newest versions allowed, in .venv-newest
	@bash .ci/lane newest

lint: .venv/.installed  ## format, lint, types, import contracts, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/codespell

docs: .venv/.installed  ## the documentation as a site, strictly built into runs/site
	@$(BIN)/python -m mkdocs build --strict

bench: .venv/.installed  ## measure pooling, time to first token, loading, the adapter and the embedded world (over an hour)
	@$(BIN)/python -m benchmarks.pooling
	@$(BIN)/python -m benchmarks.prefill
	@$(BIN)/python -m benchmarks.adapter
	@$(BIN)/python -m benchmarks.frames
	@$(BIN)/python -m benchmarks.loading
	@$(BIN)/python -m benchmarks.plan
	@$(BIN)/python -m benchmarks.recipes
	@$(BIN)/python -m benchmarks.a100
	@$(BIN)/python -m benchmarks.data
	@$(BIN)/python -m benchmarks.cache
	@$(BIN)/python -m benchmarks.watching
	@$(BIN)/python -m benchmarks.training
	@$(BIN)/python -m benchmarks.serving
	@$(BIN)/python -m benchmarks.embedded
	@$(BIN)/python -m benchmarks.positions
	@$(BIN)/python -m benchmarks.evaluation
	@$(BIN)/python -m benchmarks.readme

lmms-parity: .venv-lmms/.installed  ## compare with lmms-eval, in .venv-lmms, an environment of its own (some minutes)
	@.venv-lmms/bin/python -m benchmarks.lmms

.venv-lmms/.installed: .venv/.installed pyproject.toml constraints.txt
	@bash .ci/setup-lmms
	@touch $@

.venv/.installed: pyproject.toml constraints.txt
	@bash .ci/setup $(PYTHON)
	@touch $@
