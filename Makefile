PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
INSTALLED := $(VENV)/.installed
DEMO := checkpoints/demo

.PHONY: setup demo test integrations torture docs docs-serve docs-test man lint typecheck layers check \
  bench gpu corpus clean

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

# About a minute of training on the bundled corpus, then sampling and scoring.
demo: $(INSTALLED)
	$(BIN)/textgen train --out $(DEMO) --budget 60s --overwrite
	@$(BIN)/python corpora/build.py --bits
	$(BIN)/textgen sample $(DEMO) --length 600 --temperature 0.6
	$(BIN)/textgen score $(DEMO) --text "“Where is the gong?” asked Ida." \
	  --text "“Where is the gong? asked Ida.”"

test: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

# Fault injection in full: kills, full disks, damaged files, disabled safeguards.
# The tests run the same campaigns with small counts.
torture: $(INSTALLED)
	$(BIN)/python tests/torture/run.py

# The doors to other programs, each tried with that program: an environment of its own.
# pyctcdecode declares a NumPy below 2, and works with later ones: it comes without dependencies.
INTEGRATIONS := .venv-integrations
integrations: $(INTEGRATIONS)/.installed
	$(INTEGRATIONS)/bin/python -m pytest tests/integrations

# The variable holds for the environments that packages are built in, too.
$(INTEGRATIONS)/.installed: export PIP_CONSTRAINT := constraints-integrations.txt
$(INTEGRATIONS)/.installed: pyproject.toml constraints-integrations.txt
	$(PYTHON) -m venv $(INTEGRATIONS)
	$(INTEGRATIONS)/bin/python -m pip install --quiet --editable '.[dev,integrations]'
	$(INTEGRATIONS)/bin/python -m pip install --quiet --no-deps pyctcdecode
	@touch $@

# The documentation site, in site/. Only the installation needs a network.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs
docs: $(VENV)/.docs
	$(MKDOCS) build --strict

docs-serve: $(VENV)/.docs
	$(MKDOCS) serve --watch textgen

$(VENV)/.docs: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

# Runs every command line and every block of Python of the documentation, trainings made short.
docs-test: $(INTEGRATIONS)/.installed
	$(INTEGRATIONS)/bin/python docs/_tools/run.py

# The manual page, from the options of the commands.
man: $(INSTALLED)
	$(BIN)/python docs/_tools/commands.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: $(INSTALLED)
	$(BIN)/mypy

layers: $(INSTALLED)
	$(BIN)/lint-imports

check: lint typecheck layers test

# The server and the page need the packages of ``integrations``.
bench: $(INSTALLED) $(INTEGRATIONS)/.installed
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/scoring.py
	$(BIN)/python benchmarks/adapting.py
	$(BIN)/python benchmarks/sampling.py
	$(BIN)/python benchmarks/writing.py
	$(BIN)/python benchmarks/steps.py
	$(BIN)/python benchmarks/tokenizing.py
	$(BIN)/python benchmarks/cells.py
	$(BIN)/python benchmarks/models.py counting hmm writing
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/busy.py
	$(INTEGRATIONS)/bin/python benchmarks/serving.py
	$(INTEGRATIONS)/bin/python benchmarks/page.py

# On a machine with a GPU: the tests that need one, and its figures, in under ten minutes.
gpu: $(INSTALLED)
	$(BIN)/python benchmarks/gpu.py

# Regenerates corpora/stories.txt and probe.jsonl from grammar.txt, bit for bit the same.
corpus: $(INSTALLED)
	$(BIN)/python corpora/build.py

clean:
	rm -rf $(VENV) $(INTEGRATIONS) build dist site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
