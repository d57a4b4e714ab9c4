PYTHON ?= .venv/bin/python

.PHONY: check docs format
check:  ## lint, types, tests, doctests: all of them are tests
	$(PYTHON) -m pytest -q -n 2

docs:  ## the site in build/site; needs the extra docs; warnings are errors
	$(PYTHON) -m sphinx -W --keep-going -q -b html docs build/site
	$(PYTHON) docs/check_site.py build/site

format:
	$(PYTHON) -m ruff format fgseg recipes tests benchmarks notebooks docs
	$(PYTHON) -m ruff check --fix fgseg recipes tests benchmarks notebooks docs
