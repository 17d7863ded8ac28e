# What a developer types. Every target uses .venv, whether or not it is active.
PYTHON ?= python3

.PHONY: help setup fix test check docs
help:
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-6s %s\n", $$1, $$2}' Makefile

setup: ## install the package and its tools into .venv
	$(PYTHON) -m venv .venv
	.venv/bin/pip install -e '.[dev]'

fix: | .venv/bin/ruff ## format the code and fix what lint can fix
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

test: | .venv/bin/ruff ## lint, types and the quick tests: a minute
	PATH="$(CURDIR)/.venv/bin:$$PATH" scripts/test

check: | .venv/bin/ruff ## everything, as CI runs it
	PATH="$(CURDIR)/.venv/bin:$$PATH" scripts/check

docs: | .venv/bin/ruff ## build the site: site/index.html
	NO_MKDOCS_2_WARNING=true .venv/bin/mkdocs build --strict

.venv/bin/ruff:
	$(MAKE) setup
