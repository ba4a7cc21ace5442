# `make demo` and `make test` do all the set-up themselves, on a machine that has Python 3.11, make and a C compiler.
# PYTHON=…       the interpreter to build the environment with
# TORCH_INDEX=…  one more package index, that has PyTorch's CPU builds: needed where a plain torch would bring CUDA along
# HGPT_HOME=…, HGPT_MODELS=…  where models are kept (default: ~/.cache/hugginggpt/models)

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
PIP_VERSION := 26.3
PINS := cluster/constraints.txt
TORCH := $(shell sed -n '/^torch==/p' $(PINS))
# Only what is installed decides whether it is installed again, not when a file was touched.
PROMETHEUS := $(BIN)/prometheus
STAMP := $(VENV)/setup-$(firstword $(shell cat pyproject.toml $(PINS) | cksum))

# On two cores that other work shares, torch's second busy thread can stall it for minutes.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE
ifdef TORCH_INDEX
export PIP_EXTRA_INDEX_URL := $(strip $(PIP_EXTRA_INDEX_URL) $(TORCH_INDEX))
endif

# In the order of `make bench`; PLOTTED are those that draw one, too.
BENCHMARKS := graph_overhead first_step http_ingress cache batching data_plane model_switch memory
PLOTTED := graph_overhead http_ingress
RESULTS := benchmarks/results
define benchmark
	$(BIN)/python -m benchmarks.$(1) --out $(RESULTS)/$(1).json $(if $(filter $(1),$(PLOTTED)),--plot $(RESULTS)/$(1).svg)

endef

.PHONY: help demo test test-slow lint types serve bench load load-fakes answers plan-quality monitor setup weights clean
.DEFAULT_GOAL := help

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

demo: SINCE := $(shell date +%s)
demo: weights  ## start the service, ask five real requests, stop it
	$(BIN)/python -m benchmarks.demo --since $(SINCE)

test: weights $(PROMETHEUS)  ## every test that takes seconds, on the real models and a local Ray
	$(BIN)/python -m pytest -m "not slow and not gpu"

test-slow: weights $(PROMETHEUS)  ## the tests that take minutes
	$(BIN)/python -m pytest -m "slow and not gpu" --timeout=3600

lint: $(STAMP)  ## style, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP)  ## mypy, strict
	$(BIN)/mypy

serve: weights  ## the service on 127.0.0.1:8000, until Ctrl-C
	$(BIN)/hgpt serve

bench: weights  ## every benchmark of speed, one after the other: half an hour, with nothing else to do
	$(foreach name,$(BENCHMARKS),$(call benchmark,$(name)))

load: weights  ## 4 users with real requests, against the service at 127.0.0.1:8000 or one of its own; Locust's report as a page
	$(BIN)/python -m benchmarks.load --users 4 --seconds 120 --out $(RESULTS)/load.json --report load-report.html

load-fakes: $(STAMP)  ## 20 users at once, on fake models
	$(BIN)/python -m benchmarks.load --fakes --users 20 --seconds 20 --out $(RESULTS)/load_fakes.json

answers: weights  ## are the answers right? real requests, judged; goes on where it was stopped
	$(BIN)/python -m benchmarks.answer_quality --out benchmarks/results/answer_quality.json

plan-quality: $(STAMP)  ## the planner's scores: make plan-quality DATA=dev.jsonl
	@test -n "$(DATA)" || { echo "DATA is the file with TaskBench's records: make plan-quality DATA=dev.jsonl" >&2; exit 1; }
	$(BIN)/python -m benchmarks.plan_quality --data "$(DATA)" --out benchmarks/results/plan_quality.json

monitor: $(PROMETHEUS)  ## Prometheus on 127.0.0.1:9090 beside the service that runs, until Ctrl-C
	$(BIN)/hgpt monitor

setup: $(STAMP)  ## the environment, without the models

weights: $(STAMP)  ## the models, checked by hash
	@$(BIN)/hgpt models pull

# The system's Prometheus, or Debian's package unpacked into the environment, which needs no root where the package lists are there.
$(PROMETHEUS): | $(STAMP)
	@if command -v prometheus >/dev/null && command -v promtool >/dev/null; then \
		ln -sf "$$(command -v promtool)" "$$(command -v prometheus)" $(BIN)/; \
	elif command -v apt-get >/dev/null && rm -rf $(VENV)/debian && mkdir $(VENV)/debian && cd $(VENV)/debian && \
		{ apt-get -qq download prometheus 2>/dev/null || { apt-get -qq update && apt-get -qq download prometheus 2>/dev/null; }; } && \
		dpkg-deb -x prometheus_*.deb . ; then \
		mv usr/bin/promtool usr/bin/prometheus ../bin/ && rm -rf ../debian; \
	else \
		echo "There is no Prometheus here: tests that need it are skipped." >&2; \
	fi

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; name one: make PYTHON=…")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet pip==$(PIP_VERSION)
	@if ! nvidia-smi >/dev/null 2>&1 && $(PIP) install --quiet --dry-run --report - $(TORCH) | grep -qE '"name": "(nvidia|cuda)-'; then \
		echo "There is no GPU here, and pip would install PyTorch with gigabytes of CUDA: set TORCH_INDEX to the address of PyTorch's CPU wheel index (make TORCH_INDEX=… $(MAKECMDGOALS))." >&2; \
		exit 1; \
	fi
	$(PIP) install --quiet -c $(PINS) -e ".[dev]"
	$(PIP) install --quiet --no-deps -c $(PINS) moonshine-voice  # its recordings are samples; it is never imported
	@rm -f $(VENV)/setup-*
	@touch $@

clean:  ## the environments and caches, not the models
	rm -rf .venv .venv-vllm demo-output load-report.html .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
