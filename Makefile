# Two commands matter: `make demo` (see it work) and `make test` (trust it). `make unit` is the loop
# for every minute. All of them make .venv first, from python3 alone.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.ready
BUF_VERSION := 1.75.0

.DEFAULT_GOAL := help
.PHONY: help env demo test unit integration lint types imports protos buflint format clean

help:  ## what there is
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(STAMP)  ## .venv with everything

# The stamp is written last: an interrupted install is taken up again.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Freshet needs python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Set PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
	  { echo "error: python3 cannot make environments; install its venv module (Debian: python3-venv)"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv pip install --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[all]'
	@touch $@

demo: env  ## train, start everything, and watch one event change a feed; ARGS=--once ends by itself
	$(BIN)/freshet demo $(ARGS)

test: env lint types imports  ## everything, against a real Kafka and a real Milvus
	$(BIN)/pytest

unit: env  ## the tests that need no server, in under a minute
	$(BIN)/pytest -q -n logical --maxprocesses 4 -m 'not integration and not slow'

integration: env  ## only those that do
	$(BIN)/pytest -m integration

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: env
	$(BIN)/mypy

imports: env
	$(BIN)/lint-imports

protos: env  ## generate protos/rec/v1/*_pb2* anew
	$(BIN)/python -m infra.gen_protos

# What a change would break on the wire: npx --yes @bufbuild/buf breaking --against '.git#branch=main'
buflint:  ## are the .proto files as buf wants them (buf.yaml); needs npx
	npx --yes @bufbuild/buf@$(BUF_VERSION) lint

format: env  ## ruff, in place
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## stop the local stack, forget its data, the environment and the caches
	-test ! -x $(BIN)/freshet || $(BIN)/freshet down --purge
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
