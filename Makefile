PYTHON ?= .venv/bin/python

.PHONY: check format
check:  ## lint, types, tests, doctests: all of them are tests
	$(PYTHON) -m pytest -q -n 2

format:
	$(PYTHON) -m ruff format fgseg recipes tests benchmarks notebooks
	$(PYTHON) -m ruff check --fix fgseg recipes tests benchmarks notebooks
