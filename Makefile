# `make study` and `make test` set everything up on a machine with Python 3.11, pip and venv.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
SET_UP := $(VENV)/.set-up

.PHONY: study test lint docs compat benchmark soak screenshots clean

study: $(SET_UP)
	$(BIN)/python train.py -m estimator=sr_ste samples=1,2,...,10

# With bytecode kept, whatever the environment says: hundreds of processes import the same modules.
test: $(SET_UP)
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses=4 --dist=loadfile --no-loadscope-reorder

lint: $(SET_UP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[lint]'
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

compat: $(SET_UP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	$(BIN)/python -m tests.compat

benchmark: $(SET_UP)
	$(BIN)/python benchmarks/loss_curve.py
	$(BIN)/python benchmarks/models.py
	$(BIN)/python benchmarks/losses.py
	$(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/start_up.py
	$(BIN)/python benchmarks/evaluated.py
	$(BIN)/python benchmarks/main_job.py
	$(BIN)/python benchmarks/parts.py
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/published.py

soak: $(SET_UP)
	$(BIN)/python -m tests.soak

# The site: open docs/_build/html/index.html, without a server.
docs: $(SET_UP)
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/images/step.py
	$(BIN)/python -m sphinx -E -W --keep-going -q -b html -d docs/_build/doctrees docs docs/_build/html

screenshots: $(SET_UP)
	$(BIN)/python docs/images/screenshots.py

$(SET_UP): pyproject.toml constraints.txt
	@echo "Setting up $(VENV), once; this takes minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[test]'
	touch $@

# Of what runs left (outputs, multirun, mlruns, mlflow.db, .srste) nothing is removed.
clean:
	rm -rf docs/_build $(VENV) .compat .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
