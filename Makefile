PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# The tests start a thousand commands: each takes three times as long where no compiled code may be kept.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test test-slow campaign check bench images docs programs libc setup clean

run: setup
	@$(BIN)/sandbox run images/cow-fork --trace faults
	@echo
	@$(BIN)/sandbox explain images/cow-fork --fault 4

test: setup
	$(BIN)/pytest -n auto --dist worksteal

test-slow: setup
	$(BIN)/pytest -n auto --dist worksteal -m campaign

campaign: setup
	CAMPAIGN=whole $(BIN)/pytest -n auto --dist worksteal -m campaign

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/sandbox images --check
	$(MAKE) --no-print-directory docs

bench: setup
	$(BIN)/python -m benchmarks

images: setup
	$(BIN)/sandbox images --build

docs: setup
	$(BIN)/sphinx-build -W -q -b html docs build/docs

programs: setup
	@$(BIN)/python -m tests.programs.fetch

libc:
	@sh asm/images/libc/fetch.sh

setup: $(STAMP)

$(STAMP): pyproject.toml
	@command -v nasm >/dev/null || { echo "nasm is needed to rebuild the NASM images: apt-get install nasm"; exit 1; }
	@command -v as >/dev/null && command -v ld >/dev/null || { echo "GNU as and ld are needed: apt-get install binutils"; exit 1; }
	@command -v gdb >/dev/null || echo "the tests with gdb are skipped: apt-get install gdb"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -e '.[dev,campaign]'
	@touch $@

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis
