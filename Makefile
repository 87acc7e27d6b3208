# Everything a newcomer needs. `make help` lists the targets; each sets up what it needs, once, in .venv.

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
MEDIA ?=
ASK ?= What happens here?
MAX_TOKENS ?= 96
SEED ?= 1
CASES ?=
REQUESTS ?= 10000
MINUTES ?= 30
KILLS ?=
BREAK ?=
ONLY ?=

BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
# What is installed is known by what the package files say, so that a fresh checkout of the same files installs nothing.
PACKAGES := $(firstword $(shell cat pyproject.toml constraints.txt setup.py kernels/cpu/*.h kernels/cpu/*.cpp | cksum))
LOCAL := $(VENV)/.installed-local-$(PACKAGES)
DEV := $(VENV)/.installed-dev-$(PACKAGES)
CLIP := .make/demo.mp4
# The benchmark's data alone: its package wants much that is not needed to read JSON.
BFCL := .make/bfcl/bfcl_eval/data

export MEDIA ASK

.DEFAULT_GOAL := help
.PHONY: help setup demo test check unit fuzz-api fuzz-language bench-encoding oracle layer long-context determinism chaos-engine prefixes soak between-forwards step-overhead int4 overhead size clean bench-grammar grammar-tools verify-self escape gold-calls chaos-runs chaos-freeze bench-runs stop-latency mcp-conformance

help: ## list all targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  PYTHON=…       interpreter for .venv, 3.11 or newer (default: python3)"
	@echo "  TORCH_INDEX=…  package index for torch; without a GPU: https://download.pytorch.org/whl/cpu"

demo: $(LOCAL) ## analyze MEDIA=path (default: a clip drawn here), asking ASK=text
	@if [ -z "$$MEDIA" ]; then \
		[ -s $(CLIP) ] || $(BIN)/python -m services.cli.clip $(CLIP); MEDIA=$(CLIP); \
	fi; \
	exec $(BIN)/moontide analyze "$$MEDIA" --ask "$$ASK" --max-tokens $(MAX_TOKENS)

test: check unit ## what must pass: check, then all tests

unit: $(DEV)
	$(BIN)/python -m pytest

check: $(DEV) ## formatting, lint, types, import contracts, generated schemas
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/python -m schemas.generate --check

fuzz-api: $(DEV) ## ask the gateway what its description allows and forbids: SEED=, CASES=, URL=, BREAK=defect
	@$(BIN)/python -m tests.fuzz.api --seed $(or $(SEED),0) --cases $(or $(CASES),100000) \
		$(if $(URL),--url $(URL)) $(if $(BREAK),--break $(BREAK))

oracle: $(DEV) ## compare the model with independent implementations, as a table
	$(BIN)/python -m tests.oracle

layer: $(DEV) ## time one layer of the released size (writes 10 GB to TMPDIR, needs 16 GiB), as JSON
	@$(BIN)/python -m tests.measure.layer

long-context: $(DEV) ## serve a prompt of 262,144 tokens and refuse one more (some minutes), as JSON
	@$(BIN)/python -m tests.measure.long_context

determinism: $(DEV) ## the same request alone and in 17 surroundings, over 500 comparisons of every bit (SEED=, BREAK=), as JSON
	@$(BIN)/python -m tests.measure.determinism --cases $(or $(CASES),500) --seed $(SEED) --break "$(BREAK)"

chaos-engine: $(DEV) ## 10,000 requests while engines, shards and encoders are killed (SEED=, REQUESTS=, BREAK=), as JSON
	@$(BIN)/python -m tests.chaos.engine --seed $(SEED) --requests $(REQUESTS) --break "$(BREAK)"

chaos-runs: $(DEV) ## missions of 60 steps while everything under them is killed 100 times (SEED=, KILLS=, BREAK=), one JSON line
	@$(BIN)/python -m tests.chaos.runs --seed $(SEED) --kills $(or $(KILLS),100) --break "$(BREAK)"

chaos-freeze: $(DEV) ## a coordinator frozen for a minute in the middle of an append, then revived (3 minutes), one JSON line
	@$(BIN)/python -m tests.chaos.freeze

bench-runs: $(DEV) ## a run of 1,000 steps over 200,000 tokens: state, replay, cost per step (4 minutes), one JSON line
	@$(BIN)/python -m tests.measure.bench_runs

stop-latency: $(DEV) ## how soon a run stops and shows a used-up quota, what it spends beyond budgets, one JSON line
	@$(BIN)/python -m tests.measure.stop_latency

prefixes: $(DEV) ## prefix hits of 300 agents in half the memory they need, plain LRU beside it, as JSON
	@$(BIN)/python -m tests.measure.prefixes

escape: $(DEV) ## escapes and abuses, each without the sandbox and with it (ONLY=words), one JSON line last
	@$(BIN)/python -m tests.escape --only "$(ONLY)"

soak: $(DEV) ## constant load on an engine: nothing grows (MINUTES=, SEED=, BREAK=leak), one JSON line
	@$(BIN)/python -m tests.measure.soak --minutes $(MINUTES) --seed $(SEED) --break "$(BREAK)"

step-overhead: $(DEV) ## what Python takes of a step at batch 16, on a K2-shaped checkpoint (1 GB), as JSON
	@$(BIN)/python -m tests.measure.step_overhead

int4: $(DEV) ## memory and decode speed of INT4 experts against bfloat16 ones (writes 4 GB to TMPDIR), as JSON
	@$(BIN)/python -m tests.measure.int4

between-forwards: $(DEV) ## what engine and sampling take between two forwards, as JSON
	@$(BIN)/python -m tests.measure.between_forwards

overhead: $(DEV) ## what moontide costs in front of an endpoint: first token, token rate, CPU (2 minutes), as JSON
	@$(BIN)/python -m tests.measure.overhead

fuzz-language: $(DEV) ## a million streamed answers against the whole messages (SEED=, CASES=, BREAK=a fault to find)
	@$(BIN)/python -m tests.fuzz.language --seed $(SEED) --cases $(or $(CASES),1000000) --break "$(BREAK)"

bench-encoding: $(DEV) ## encoding against tiktoken driven directly, and round trips, as JSON
	@$(BIN)/python -m tests.measure.language

bench-grammar: $(DEV) ## what grammars cost per token and per schema at the released vocabulary, as JSON
	@$(BIN)/python -m tests.measure.grammar --seed $(SEED)

grammar-tools: $(DEV) ## calls and formatted answers of random weights under 300 schemas (20 minutes; SEED=, CASES=, BREAK=), as JSON
	@$(BIN)/python -m tests.measure.constrained --seed $(SEED) --cases $(or $(CASES),0) --break "$(BREAK)"

verify-self: $(DEV) ## moontide judged by `moontide verify`, every check in both sampling modes (10 minutes), as JSON
	@$(BIN)/python -m tests.measure.verify_self

gold-calls: $(DEV) ## gold answers of a public function-calling benchmark through the whole path (CASES=), one JSON line
	@[ -d $(BFCL) ] || $(BIN)/python -m pip install --disable-pip-version-check -q --no-deps --target .make/bfcl bfcl-eval==2026.3.23
	@$(BIN)/python -m tests.measure.gold_calls $(BFCL) --cases $(or $(CASES),0)

mcp-conformance: $(DEV) ## the public MCP conformance suite against our client (npm installs it; 3 minutes), JSON last
	@$(BIN)/python -m tests.conformance.mcp $(if $(CASES),--only "$(CASES)")

setup: $(DEV) ## only install what demo and test need

size: ## lines of Python per folder
	@git ls-files '*.py' | xargs wc -l | awk '$$2 != "total" { \
		n = split($$2, part, "/"); folder = part[1] (n > 2 ? "/" part[2] : ""); lines[folder] += $$1; all += $$1 } \
		END { for (folder in lines) printf "%7d %s\n", lines[folder], folder; printf "%7d total\n", all }' | sort -k2

clean: ## remove everything that make made here
	rm -rf $(VENV) .make build dist *.egg-info kernels/cpu/*.so .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# pip comes last into a new environment: with it there, nothing was interrupted.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "moontide needs Python 3.11 or newer as $(PYTHON); name another one: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)

$(LOCAL): | $(BIN)/pip
	@echo "installing packages into $(VENV) (once; some minutes)"
	$(PIP_INSTALL) -e '.[local]'
	@touch $@

$(DEV): | $(BIN)/pip
	@echo "installing packages into $(VENV) (once; some minutes)"
	$(PIP_INSTALL) -e '.[local,dev]'
	@touch $@ $(LOCAL)
