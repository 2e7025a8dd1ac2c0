# Every verb makes the environment it needs; that is redone only when what it is made from has changed.
PYTHON := python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test regress check docs wheel clean
.DELETE_ON_ERROR:

help:   ## list these verbs
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' $(MAKEFILE_LIST)

demo: $(VENV)/.demo   ## compare prompting and fine-tuning on the small model that ships with the project
	$(BIN)/bench run --methods few-shot,lora,qlora --task bookrec

test: check   ## everything a change has to pass: style, types, tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

regress: $(VENV)/.dev   ## is anything worse than the baseline that is committed?
	rm -rf results/ci
	$(BIN)/bench run --methods few-shot,lora --task capitals --budget ci --seeds 3 --out results/ci
	$(BIN)/bench check results/ci

check: $(VENV)/.dev   ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.dev   ## build the pages into build/docs, where they open without a server
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

wheel: $(VENV)/.dev   ## build dist/*.whl and dist/*.tar.gz
	$(BIN)/python -m build --no-isolation

clean:   ## remove what was built, keep results and the environment
	rm -rf dist build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find bench methods tasks models tests -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.dev: EXTRA := [dev,docs]
$(VENV)/.demo $(VENV)/.dev: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("adaptbench needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -e '.$(EXTRA)' -c constraints.txt
	@touch $@
