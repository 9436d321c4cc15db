# `make demo` and `make test` need python3 >= 3.11 and make, nothing else. The virtual environment is made once;
# it is installed again when pyproject.toml changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# What the bundled calibration is made from: held-out sources only, never what the generators were trained on.
MODELS := generator/models
CANDIDATES := --candidate emoji-a=$(MODELS)/emoji-a.safetensors --candidate emoji-b=$(MODELS)/emoji-b.safetensors
ENCODER_A := --encoder emoji-a=$(MODELS)/emoji-a.encoder.safetensors
ENCODERS := $(ENCODER_A) --encoder emoji-b=$(MODELS)/emoji-b.encoder.safetensors
DATA := tests/data/emoji-portraits-64.zip
REALS := --real $(DATA) --split held-out,held-out-style,held-out-subject
CALIBRATION := attribution/demo/calibration.json
STEPS ?= 30
FIGURES := runs/figures
PICTURES := tests/benchmarks/pictures
METHODS := $(BIN)/python -m tests.benchmarks.methods --out $(FIGURES)
# the default method against the paper's 1000 steps; then fewer steps and more, with LPIPS-Alex, a quarter of the time
WAYS := --run "default=$(ENCODER_A) --steps $(STEPS) --batch-size 16" \
	--run "bf16=$(ENCODER_A) --steps $(STEPS) --precision bf16 --batch-size 16" \
	--run "paper=--method paper --full --precision bf16 --batch-size 16"
ALEX := --batch-size 16 --lpips alex
CURVE := --run "default=$(ENCODER_A) --steps $(STEPS) $(ALEX)" \
	$(foreach n,5 10 15 30 60,--run "bf16-$(n)=$(ENCODER_A) --steps $(n) --precision bf16 $(ALEX)") \
	--run "paper=--method paper --full --precision bf16 $(ALEX)"

.PHONY: demo test lint encoders calibration figures clean

demo: $(VENV)/.installed
	$(BIN)/latentprint demo

test: lint
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Where the searches begin: half an hour on two cores.
encoders: $(VENV)/.installed-test
	for name in emoji-a emoji-b; do \
		$(BIN)/latentprint train-encoder --generator $(MODELS)/$$name.safetensors --kimg 100 --precision bf16 \
			--out $(MODELS)/$$name.encoder.safetensors; done

# Demo suspects, calibration, and every number of the README that a name in <!-- --> marks, from the bundled generators:
# five hours on two cores, four of them for the paper's 1000 steps, four times. Killed, it goes on.
calibration: $(VENV)/.installed-test
	mkdir -p $(FIGURES)
	$(BIN)/python -m tests.benchmarks.demo_suspects > $(FIGURES)/excluded
	$(BIN)/latentprint calibrate $(CANDIDATES) $(ENCODERS) $(REALS) --exclude "$$(cat $(FIGURES)/excluded)" \
		--control-split held-out --steps $(STEPS) --batch-size 16 --seed 0 --alpha 0.05 --lambda 1 --out $(CALIBRATION)
	rm -rf $(FIGURES)/demo && $(BIN)/latentprint demo --out $(FIGURES)/demo
	$(MAKE) figures

figures: $(VENV)/.installed-test
	mkdir -p $(FIGURES)
	$(BIN)/python -m tests.benchmarks.operators --markdown $(FIGURES)/operators.md
	$(BIN)/python -m tests.benchmarks.convolution --markdown $(FIGURES)/convolution.md
	$(BIN)/python -m tests.benchmarks.compiled --markdown $(FIGURES)/compiled.md
	$(BIN)/latentprint study separation $(CANDIDATES) $(ENCODERS) --calibration $(CALIBRATION) $(REALS) \
		--out $(FIGURES)/study-1-default
	$(BIN)/latentprint study separation $(CANDIDATES) $(ENCODERS) --calibration $(CALIBRATION) $(REALS) --noise-weight 0 \
		--out $(FIGURES)/study-2-noise-free
	for name in $(MODELS)/emoji-a $(MODELS)/emoji-b tests/data/emoji-a-010kimg; do \
		$(BIN)/latentprint evaluate --generator $$name.safetensors --data $(DATA) --split train --samples 2337 --json \
			--metrics fd_vgg16,kd_vgg16,recall > $(FIGURES)/metrics-$$(basename $$name).json; done
	$(BIN)/python -m tests.benchmarks.sample_grids
	$(BIN)/python -m tests.benchmarks.trade_off $(CALIBRATION) --markdown $(FIGURES)/trade-off.md \
		--figure $(PICTURES)/trade-off.svg
	$(BIN)/python -m tests.benchmarks.early_stops --out $(FIGURES)/early-stops --markdown $(FIGURES)/early-stops.md
	$(METHODS)/methods --time $(WAYS) --markdown $(FIGURES)/methods.md
	$(METHODS)/methods-jpeg --jpeg 75 $(WAYS) --markdown $(FIGURES)/methods-jpeg.md
	$(METHODS)/alex --time $(CURVE) --markdown $(FIGURES)/alex.md --figure $(PICTURES)/alex.svg
	$(METHODS)/alex-jpeg --jpeg 75 --time $(CURVE) --markdown $(FIGURES)/alex-jpeg.md --figure $(PICTURES)/alex-jpeg.svg
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
