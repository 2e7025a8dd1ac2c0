# Every target creates the environment it needs; the environment is rebuilt only when its inputs have changed.
PYTHON := python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo try test gpu lint fix translations regress docs wheel clean
.DELETE_ON_ERROR:

help:   ## list these targets
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' $(MAKEFILE_LIST)

demo: $(VENV)/.demo   ## compare three methods on the model and the task that ship with the project
	$(BIN)/bench run --methods few-shot,lora,qlora --task bookrec

try: $(VENV)/.demo   ## go from a file of rows to a recommendation: make try DATA=data.csv MINUTES=20
	$(BIN)/bench try "$(DATA)" --minutes $(or $(MINUTES),20)

test: $(VENV)/.dev   ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

gpu: $(VENV)/.dev   ## run the tests that need a CUDA GPU, then measure runs on it and print their table
	@status=0; \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m gpu -n 4 --dist loadfile tests/gpu || status=$$?; \
	PATH="$(abspath $(BIN)):$$PATH" STAGES="$${STAGES:-facts small big bare limits}" bash benchmarks/gpu/stages.sh || status=$$?; \
	exit $$status

lint: $(VENV)/.dev   ## check style, types and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

fix: $(VENV)/.dev   ## format the code and fix what can be fixed automatically
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

translations: $(VENV)/.dev   ## put new sentences of the code into the catalogs in bench/locale, and remove unused ones
	@mkdir -p build
	$(BIN)/pybabel -q extract -F pyproject.toml --no-default-keywords -k translate -k Message --no-wrap --add-location=file \
		--sort-by-file --project=adaptbench -o build/bench.pot .
	$(BIN)/pybabel -q update -D bench -i build/bench.pot -d bench/locale --no-wrap --no-fuzzy-matching \
		--ignore-obsolete --ignore-pot-creation-date

regress: $(VENV)/.dev   ## compare this code with the committed baseline; writes build/regress
	rm -rf build/regress
	$(BIN)/bench run --methods few-shot,lora --task capitals --budget ci --seeds 3 --out build/regress
	$(BIN)/bench check build/regress

docs: $(VENV)/.dev   ## build the documentation into build/docs; it opens without a server
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

wheel: $(VENV)/.dev   ## build dist/*.whl and dist/*.tar.gz
	$(BIN)/python -m build --no-isolation

clean:   ## remove everything that was built; keep results and the environment
	rm -rf dist build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find bench methods tasks models tests -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.dev: EXTRA := [dev,docs]
$(VENV)/.demo $(VENV)/.dev: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("adaptbench needs Python 3.11.4 or newer" if sys.version_info < (3, 11, 4) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -e '.$(EXTRA)' -c constraints.txt
	@touch $@
