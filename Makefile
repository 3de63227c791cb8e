# make demo, test or lab: each makes .venv first if it is missing or older than what it is made from.
PYTHON ?= python3
BIN := .venv/bin
# Without a GPU, https://download.pytorch.org/whl/cpu has PyTorch without the libraries of CUDA.
TORCH_INDEX ?=
# Python keeps what it compiles when it first imports it, about a third of the packages; without that, each process compiles.
export PYTHONDONTWRITEBYTECODE :=
# Jupyter refuses to run as root, as which many containers do, without this option.
LAB := $(BIN)/jupyter lab --ServerApp.root_dir=.$(if $(filter 0,$(shell id -u)), --allow-root)
.DEFAULT_GOAL := help

help:
	@echo "make demo    train the twelve variants on the built-in videos and open Table 2 as a notebook"
	@echo "make test    lint, type check, tests, and every notebook with its default parameters"
	@echo "make lab     JupyterLab, at notebooks/start_here.ipynb"
	@echo "make browser the explorer in a real browser; as root on Debian it installs Chromium first"
	@echo "make docs    the documentation site in build/site"
	@echo "make report  draw the reports, and one page of all, from the records in results/"
	@echo "The first call makes .venv, 7 GB. With TORCH_INDEX=https://download.pytorch.org/whl/cpu it has no CUDA."

.venv/made: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; ok = (3, 11) <= v < (3, 14); \
		ok or sys.exit(f"Python 3.11, 3.12 or 3.13 is needed, $(PYTHON) is {v[0]}.{v[1]}; name another: make PYTHON=python3.12")'
	@echo "making .venv (a few minutes; PyTorch is most of it)"
	$(PYTHON) -m venv --clear .venv
# The pip that comes with Python 3.11 takes twice the time; without a newer one in the index, it is the one that installs.
	-$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --upgrade pip
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
		--constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: .venv/made
	$(BIN)/r21d train variant_comparison
	@mkdir -p reports/demo
	$(BIN)/papermill --no-progress-bar --cwd notebooks notebooks/variant_comparison.ipynb reports/demo/variant_comparison.ipynb
	$(BIN)/jupyter nbconvert --to html --log-level ERROR reports/demo/variant_comparison.ipynb
	@echo "Table 2 is in reports/demo/variant_comparison.ipynb and .html"
	@if [ -t 1 ]; then $(LAB) reports/demo/variant_comparison.ipynb || echo "JupyterLab has ended with an error; open one of the two files"; fi

# The notebooks run in a copy, on the runs of results/demo.zip and those it lacks. R(2+1)D and R3D are trained, as notebooks
# need their checkpoints.
test: .venv/made
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	rm -rf build/test
	mkdir -p build/test
	cp -r notebooks build/test
	ln -s ../../results ../../data_manifests build/test
	$(BIN)/python -m zipfile -e results/demo.zip build/test/runs
	cd build/test && ../../$(BIN)/r21d train variant_comparison --variants "R(2+1)D,R3D" --list > trained.txt
	cd build/test && rm -rf $$(grep -o 'runs/.*' trained.txt)
	$(MAKE) --jobs=2 --no-print-directory types runs-of-notebooks
# One test process more than cores, as some always wait for a process or a browser; so one thread in each. In their own
# order, the slow files are not the last ones.
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $$(($$(nproc) + 1)) --dist loadfile --no-loadscope-reorder --nbval-lax \
		build/test/notebooks tests

types:
	$(BIN)/pyright --project pyproject.toml --pythonpath $(BIN)/python

runs-of-notebooks:
	cd build/test && TQDM_DISABLE=1 ../../$(BIN)/r21d train all

browser: .venv/made
	@command -v chromium || command -v chromium-browser || command -v google-chrome || \
		{ [ "$$(id -u)" = 0 ] && command -v apt-get && apt-get update -q && apt-get install -q -y chromium; } || \
		{ echo "no Chromium here; on Debian, as root: apt-get install chromium"; exit 1; }
	$(BIN)/pytest -m browser

report: .venv/made
	$(BIN)/r21d report

docs: .venv/made
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	@echo "open build/site/index.html, or for the search: $(BIN)/mkdocs serve"

lab: .venv/made
	$(LAB) notebooks/start_here.ipynb

.PHONY: help demo test types runs-of-notebooks browser docs lab report
