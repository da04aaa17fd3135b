# One command per habit; CI runs the same ones. `make install` once, then any other.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
STAMP := $(VENV)/.installed

# Real clips are found where they lie beside the checkout; tests that need them skip, and say so, where they do not.
ifeq ($(origin TUBELET_TEST_DATA), undefined)
ifneq ($(wildcard ../shared/data/.),)
export TUBELET_TEST_DATA := $(abspath ../shared/data)
endif
endif

# Two test processes share the cores; each computes with one thread.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

.PHONY: install check fix test test-all demo notebooks docs bench results wheel clean

install: $(STAMP)

$(STAMP): pyproject.toml requirements/ci.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c requirements/ci.txt -e ".[dev,docs]"
	touch $@

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: $(STAMP)
	$(PYTEST) -m "not slow"

test-all: $(STAMP)
	$(PYTEST)

# A small labelled video set, a ViViT trained on it, its evaluation: minutes on two cores.
demo: $(STAMP)
	$(BIN)/python examples/demo.py

# The notebooks of examples/notebooks, made anew of the .py files beside them.
notebooks: $(STAMP)
	$(BIN)/python examples/make_notebooks.py

# The pages of docs/ and of the docstrings, in build/site.
docs: $(STAMP)
	$(BIN)/zensical build -f mkdocs.yml

# Speed and memory of this checkout on this machine, one table a file; gpu_check.py is run by hand, on a GPU.
bench: $(STAMP)
	set -e; for file in $(filter-out benchmarks/gpu_check.py,$(wildcard benchmarks/*.py)); do echo "== $$file"; $(BIN)/python $$file; done

# Trains the shipped recipes on the real data in TUBELET_TEST_DATA and writes the numbers that the docs state: hours.
results: $(STAMP)
	@test -n "$$TUBELET_TEST_DATA" || { echo "set TUBELET_TEST_DATA to the folder of real clips"; exit 2; }
	$(BIN)/python examples/results.py

# Builds the wheel, installs it alone into a fresh environment, and imports every module there but those of the server,
# which need an extra.
wheel: $(STAMP)
	rm -rf dist build/bare
	$(BIN)/python -m build --outdir dist
	$(PYTHON) -m venv build/bare
	build/bare/bin/python -m pip install --quiet -c requirements/ci.txt dist/*.whl
	cd build && bare/bin/python -W error -c "import importlib, pkgutil, re, tubelet; names = [m.name for m in pkgutil.walk_packages(tubelet.__path__, 'tubelet.') if not re.search(r'__main__$$|^tubelet\.serving\.(?!serve$$|options$$)', m.name)]; [importlib.import_module(n) for n in names]; print(f'{len(names)} modules import from the bare wheel')"
	rm -rf build/bare

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
