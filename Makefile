# Everything a user types. `make run` and `make test` set the project up by themselves; nothing is done by hand before.

PYTHON ?= python3
UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Python keeps what it has compiled: else every process compiles all that it imports, which takes 12 s.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run serve test test-adapters test-benchmarks test-extras test-provenance lint docs tutorials viz notebooks bench-long-logs bench-lens bench-llm bench-lifelong bench-windows bench-peers bench-ablation bench-deletions bench-ray bench-edits bench-many-nodes bench-hashes \
	bench-attacks bench-journal bench-kedro bench-serve bench-scale lock wheel clean

help:  ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/' | expand -t 24

run: $(READY)  ## ratings to recommender: the whole pipeline, its table, plots and report
	$(BIN)/kedro run

serve: $(READY)  ## answers over HTTP with the champion, which knows every event at once
	$(BIN)/kedro serve

# Processes that test side by side share the cores: threads of each that wait for one another would take them all. What
# waits for a server, a database, Ray or a kill (the mark `waits`) runs beside what computes, in a process more, which
# imports only the files that have such tests. Both run in the background, as a shell heeds no signal before what it runs
# in the foreground has ended: the tests would go on, with their servers, after `make test` was told to end.
TESTS := $(BIN)/pytest --numprocesses logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder
WAITING = $(BIN)/pytest -m waits $(shell grep -rlw --include='test_*.py' 'mark.waits' tests)
PROVENANCE := tests/codeprint tests/kedro_provenance tests/project/test_edits.py
test test-benchmarks test-extras test-provenance: export OMP_NUM_THREADS := 1
test test-benchmarks test-extras test-provenance: export POLARS_MAX_THREADS := 1
test test-benchmarks test-extras test-provenance: export RAYON_NUM_THREADS := 1
test: $(READY)  ## the tests of the recommender, in a process per core
	@mkdir -p build
	@trap 'kill $$waiting $$computing' INT TERM; \
	$(WAITING) >build/tests-that-wait.txt 2>&1 & waiting=$$!; \
	$(TESTS) -m 'not benchmark and not waits' $(addprefix --ignore=,$(PROVENANCE)) src/reclora_kedro tests & computing=$$!; \
	wait $$computing; computed=$$?; \
	wait $$waiting; waited=$$?; \
	echo "Tests that wait:"; cat build/tests-that-wait.txt; exit $$((computed | waited))

test-benchmarks: $(READY)  ## each benchmark, on data of seconds; the tutorials; the examples of README, on the real data
	$(TESTS) -m benchmark tests/project

test-extras: $(READY)  ## types and tests of the published methods, monitoring and tracking, a distribution of their own
	$(BIN)/mypy src/reclora_extras
	$(TESTS) src/reclora_extras

test-provenance: $(READY)  ## the tests of codeprint and of the Kedro plug-in, which stand alone
	$(TESTS) src/codeprint src/kedro_provenance $(PROVENANCE)

# ZenML has an environment of its own: it contradicts others in what they need.
ADAPTERS := $(BIN)/uv run --quiet --isolated --no-project --python $(BIN)/python --with pytest
test-adapters: $(READY)  ## codeprint's adapters, each with the newest release of its tool
	PYTHONPATH=src $(ADAPTERS) --with joblib --with dagster --with redun --with sf-hamilton pytest --noconftest -c /dev/null --rootdir . tests/codeprint/test_adapters.py
	PYTHONPATH=src $(ADAPTERS) --with "zenml[local]" pytest --noconftest -c /dev/null --rootdir . tests/codeprint/test_adapters.py

lint: $(READY)  ## format, style, types and the import contracts
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY)  ## the site of the documentation, in build/docs
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs build/docs

# Kaleido, which draws their figures as PNG, is in no other use.
tutorials: $(READY)  ## the tutorials' outputs, after a default run: notebooks/*.ipynb are written anew
	$(BIN)/uv pip install --quiet --target build/kaleido --no-deps kaleido==0.2.1
	PYTHONPATH=build/kaleido $(BIN)/python docs/_extensions/tutorials.py

viz: $(READY)  ## the pipeline, its data and its plots in the browser
	$(BIN)/kedro viz run

notebooks: $(READY)  ## the tutorials in JupyterLab, which is installed first
	$(BIN)/uv pip install --python $(BIN)/python --quiet --requirements pyproject.toml --extra notebooks
	$(BIN)/kedro jupyter lab notebooks

bench-long-logs: $(READY)  ## logs longer than memory: up to 100 million rows here, on Ray, and by DuckDB
	$(BIN)/python benchmarks/long_logs.py

bench-lens: $(READY)  ## training speed of the lenses by length of the history
	$(BIN)/python benchmarks/lens.py

bench-llm: $(READY)  ## speed and memory of the LLM engine beside PEFT's LoRA and two other ways to train
	$(BIN)/python benchmarks/llm.py

bench-serve: $(READY)  ## answers per second of the live service by lens and by LLM, and PEFT's adapter per row beside it
	$(BIN)/python benchmarks/serve.py

bench-lifelong: $(READY)  ## what updates are worth: five blocks of time of three logs, four policies
	$(BIN)/python benchmarks/lifelong.py
	$(BIN)/python benchmarks/lifelong_adapter.py

bench-windows: $(READY)  ## what updates are worth week by week: AUC, HR and NDCG, by several seeds
	$(BIN)/python benchmarks/windows.py

bench-peers: $(READY)  ## lists of ten by other libraries and by this one: one split, one evaluator, an hour of a core
	$(BIN)/python benchmarks/libraries.py

bench-ablation: $(READY)  ## what recency, transitions, texts and the second stage are worth, half an hour of a core
	$(BIN)/python benchmarks/ablation.py

bench-scale: $(READY)  ## CSV to everyone's lists, a service and an adapter: 2.5, 10 and 25 million rows, two hours of two cores
	$(BIN)/python benchmarks/scale.py

bench-deletions: $(READY)  ## users who are forgotten one after another, beside full retraining
	$(BIN)/python benchmarks/deletions.py

bench-journal: $(READY)  ## the journal in PostgreSQL: acknowledged events under kills of services and of the server
	$(BIN)/python benchmarks/journal.py

bench-attacks: $(READY)  ## what two and ten nightly updates make of inverted labels, fake users, lifted items and honest drift
	$(BIN)/python benchmarks/attacks.py

bench-ray: $(READY)  ## the heavy steps on Ray: two workers against one, and what becomes of them when workers die
	$(BIN)/python benchmarks/cluster.py

bench-edits: $(READY)  ## what a run with --only-missing-outputs misses after 151 edits of a project, and what it runs needlessly
	$(BIN)/python benchmarks/edits.py

bench-many-nodes: $(READY)  ## CPU seconds of a run with nothing to do in a project of 300 nodes, beside Kedro's own
	$(BIN)/python benchmarks/many_nodes.py

bench-hashes: $(READY)  ## the edits of code that the hashes of other tools miss, beside codeprint's
	PYTHONPATH=src $(BIN)/uv run --quiet --isolated --no-project --python $(BIN)/python --with "kedro[pydantic]==1.7.*" --with "kedro-datasets==9.6.*" --with pandas --with parse --with psutil --with filelock --with rich --with tqdm \
		--with joblib --with redun --with sf-hamilton python benchmarks/hashes.py

bench-kedro: $(READY)  ## the plug-in in five projects that know nothing of it, with Kedro 1.5, 1.6 and 1.7
	@for version in 1.5 1.6 1.7; do \
		echo "Kedro $$version" && PYTHONPATH=src $(BIN)/uv run --quiet --isolated --no-project --python $(BIN)/python \
			--with "kedro[pydantic]==$$version.*" --with ./src/codeprint --with ./src/kedro_provenance --with kedro-datasets --with pandas --with pyarrow \
			--with sqlalchemy --with scikit-learn --with plotly --with polars python benchmarks/foreign_projects.py || exit 1; \
	done

lock: $(BIN)/uv  ## compile requirements.lock from what both distributions need
	echo reclora-kedro | $(BIN)/uv pip compile pyproject.toml src/reclora_extras/pyproject.toml --excludes /dev/stdin --group dev --extra arrow --extra black-box --extra database --extra demo --extra docs --extra figures --extra large --extra llm --extra mcp \
		--extra mlflow --extra postgres --extra privacy --extra ray --extra s3 --extra search --extra viz --universal --generate-hashes --no-emit-index-url --no-header --quiet \
		--output-file requirements.lock

wheel:  ## the package to install, in dist/; sets nothing up
	$(PYTHON) -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

clean:  ## remove the environments and caches; data/ stays
	rm -rf $(VENV) .venv-peers .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build

# PyTorch's build for the CPU, a third of the size, is taken where no NVIDIA GPU is seen and PyTorch's own index can be
# reached; `make run TORCH=default` takes the one with GPU libraries anyway. The lock pins both: they are of one version.
GPU := $(firstword $(wildcard /dev/nvidiactl /dev/dxg))
TORCH := $(if $(GPU),default,cpu)
INSTALL := $(BIN)/uv pip install --python $(BIN)/python --quiet --no-deps
CPU_TORCH = --torch-backend cpu --reinstall-package torch $(shell sed -n 's/^\(torch==[^ ]*\).*/\1/p' requirements.lock)
WITHOUT_TORCH := awk '/^[a-z]/ {left_out = /^(torch==|triton==|nvidia-|cuda-)/} !left_out' requirements.lock

# The environment is ready when it holds the lock's packages and both distributions of the project, editable. Two processes import the largest packages,
# so that Python compiles them on two cores: the first run would take twice the time until its first node.
$(READY): requirements.lock pyproject.toml src/reclora_extras/pyproject.toml $(BIN)/uv
	@if [ $(TORCH) = cpu ] && UV_HTTP_RETRIES=0 UV_HTTP_CONNECT_TIMEOUT=5 $(INSTALL) --dry-run $(CPU_TORCH) 2>/dev/null; then \
		echo "PyTorch: the build for the CPU, as no NVIDIA GPU is seen (the environment takes 2.4 GB)."; \
		$(INSTALL) $(CPU_TORCH) && $(WITHOUT_TORCH) | $(INSTALL) --requirements -; \
	else \
		echo "PyTorch: the default build, with GPU libraries, as" \
			"$(if $(filter cpu,$(TORCH)),the index of its builds for the CPU cannot be reached,$(if $(GPU),$(GPU) is there,you chose it))" \
			"(the environment takes 7 GB)."; \
		$(INSTALL) --requirements requirements.lock; \
	fi
	@$(INSTALL) --editable . --editable src/reclora_extras
	@$(BIN)/python -c 'import torch._dynamo, torch.distributed.tensor' & \
		$(BIN)/python -c 'import pandas, pandera.polars, plotly.graph_objects, scipy.stats, sklearn.linear_model, transformers'; wait
	@touch $@

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit( \
		f"Python 3.11 to 3.13 is needed, and $(PYTHON) is {v[0]}.{v[1]}: name another one, as in `make run PYTHON=python3.12`.")'
	@echo "Setting up $(VENV), once ..."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
