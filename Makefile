# `make demo` and `make test` need python3 >= 3.11 and make, nothing else. The virtual environment is made once;
# it is installed again when pyproject.toml changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# What the bundled calibration is made from: held-out sources only, never what the generators were trained on.
MODELS := generator/models
CANDIDATES := --candidate emoji-a=$(MODELS)/emoji-a.safetensors --candidate emoji-b=$(MODELS)/emoji-b.safetensors
DATA := tests/data/emoji-portraits-64.zip
REALS := --real $(DATA) --split held-out,held-out-style,held-out-subject
CALIBRATION := attribution/demo/calibration.json
STEPS ?= 60
FIGURES := runs/figures

.PHONY: demo test lint calibration figures clean

demo: $(VENV)/.installed
	$(BIN)/latentprint demo

test: lint
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Demo suspects, calibration, and every number of the README, from the bundled generators: about an hour and a quarter
# on two cores. Killed, it goes on where it was.
calibration: $(VENV)/.installed-test
	mkdir -p $(FIGURES)
	$(BIN)/python -m tests.benchmarks.demo_suspects > $(FIGURES)/excluded
	$(BIN)/latentprint calibrate $(CANDIDATES) $(REALS) --exclude "$$(cat $(FIGURES)/excluded)" --control-split held-out \
		--steps $(STEPS) --batch-size 16 --seed 0 --alpha 0.05 --lambda 1 --out $(CALIBRATION)
	rm -rf $(FIGURES)/demo && $(BIN)/latentprint demo --out $(FIGURES)/demo
	$(MAKE) figures

figures: $(VENV)/.installed-test
	mkdir -p $(FIGURES)
	$(BIN)/python -m tests.benchmarks.operators --markdown $(FIGURES)/operators.md
	$(BIN)/latentprint study separation $(CANDIDATES) --calibration $(CALIBRATION) $(REALS) --out $(FIGURES)/study-1-default
	$(BIN)/latentprint study separation $(CANDIDATES) --calibration $(CALIBRATION) $(REALS) --noise-weight 0 \
		--out $(FIGURES)/study-2-noise-free
	$(BIN)/latentprint study separation $(CANDIDATES) --calibration $(CALIBRATION) $(REALS) --units 16 --steps 1000 --batch-size 16 \
		--out $(FIGURES)/study-3-1000-steps
	for name in $(MODELS)/emoji-a $(MODELS)/emoji-b tests/data/emoji-a-010kimg; do \
		$(BIN)/latentprint evaluate --generator $$name.safetensors --data $(DATA) --split train --samples 2337 --json \
			> $(FIGURES)/metrics-$$(basename $$name).json; done
	$(BIN)/python -m tests.benchmarks.sample_grids
	$(BIN)/python -m tests.benchmarks.readme_numbers $(FIGURES)

# Editable, so that a stamp is enough: the code that runs is always the code that is here.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
		{ echo "$(PYTHON): found `$(PYTHON) --version 2>&1`, expected Python 3.11 or newer (make PYTHON=...)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable ".[test]"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path "./.git/*" -prune -exec rm -rf {} +
