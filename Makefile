# `make` lists the targets. Everything happens in .venv, which `make` makes itself.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help up test check lint types imports fast e2e campaign format lock audit sbom wheel clean \
  longrun soak-shop overload model simulate power fuzz fuzz-api identity bench picture soak

help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

up: .venv/.run  ## start the shop here; Ctrl-C stops it
	@$(BIN)/python .ci/foreground $(BIN)/mesh up

test: .venv/.dev  ## every test; those that need an absent server skip with their reason
	$(BIN)/pytest -n 2 --dist loadgroup -m "not e2e"
	$(BIN)/pytest -m e2e

check: lint types imports test  ## what CI runs

lint: .venv/.dev  ## ruff, all rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.dev  ## mypy --strict
	$(BIN)/mypy

imports: .venv/.dev  ## the floors: imports go down only
	$(BIN)/lint-imports

fast: .venv/.dev  ## the tests that start no process
	$(BIN)/pytest -n 2 --dist loadgroup -m "not e2e and not connected and not campaign"

e2e: .venv/.dev  ## the tests that run the real shop
	$(BIN)/pytest -m e2e

campaign: .venv/.dev fuzz-api  ## fuzz-api, then 1,000 SIGKILLs over the running shop (about 15 min); SEED= KILLS=
	$(BIN)/python -m tests.e2e.test_kill_campaign $(or $(SEED),1) $(or $(KILLS),1000)

longrun: .venv/.dev  ## 1,100 SIGKILLs under 50 orders a second, each leg judged (about 20 min): KILLS= RATE= EVERY= SEED=
	$(BIN)/python -u benchmarks/longrun.py --kills $(or $(KILLS),1100) --rate $(or $(RATE),125) \
	  --every $(or $(EVERY),0.8) --seed $(or $(SEED),1)

soak-shop: .venv/.dev  ## memory, descriptors and files of every process while the shop is used, slopes by hour: MINUTES=240 RATE=20
	$(BIN)/python -u benchmarks/soak.py --minutes $(or $(MINUTES),240) --rate $(or $(RATE),20)

overload: .venv/.dev  ## four times the capacity, a failing callee, stalling clients, lost answers (about 5 min)
	$(BIN)/python -m tests.e2e.test_overload
	$(BIN)/python -m tests.e2e.test_slow_clients 60
	$(BIN)/python -m tests.e2e.test_ambiguous 50

model: .venv/.dev  ## every state of the bus's rules in a small world, and mutants: EVENTS=4
	$(BIN)/python -m tests.model --events $(or $(EVENTS),4)

simulate: .venv/.dev  ## the bus under seeded faults and virtual time: SEEDS=1000, or SEED= one
	$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),1000))

power: .venv/.dev  ## cut the power at every acknowledgement: CUTS=3000
	$(BIN)/python -m tests.power --cuts $(or $(CUTS),3000)

fuzz: .venv/.dev  ## harmed frames at each endpoint of a real bus: FRAMES=100000
	$(BIN)/python -m tests.fuzz --frames $(or $(FRAMES),100000)

fuzz-api: .venv/.dev  ## right and wrong requests to every operation of the shop: CASES=20000 SEED=
	$(BIN)/python -m tests.api_fuzz --cases $(or $(CASES),20000) --seed $(or $(SEED),1)

identity: .venv/.dev  ## attack the identities of a running shop: guesses, refreshes, ended sessions, rotated keys (7 min)
	$(BIN)/python -m tests.identity

bench: .venv/.dev  ## everything that is measured, beside others, then one table of ratios (under 15 min)
	@mkdir -p benchmarks/results
	$(BIN)/python -u benchmarks/bench.py | tee benchmarks/results/$$(date -u +%F)-$$(git describe --always --dirty).txt

picture: .venv/.dev  ## draw the dashboard of README: the shop under load, harmed (about 1 min)
	$(BIN)/python docs/pictures/dashboard.py

soak: .venv/.dev  ## a million events and log lines past an open dashboard: EVENTS= LINES=
	$(BIN)/python -m tests.e2e.test_dash_soak $(or $(EVENTS),1000000) $(or $(LINES),1000000)

format: .venv/.dev  ## let ruff write what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: .venv/.dev  ## choose the newest packages again and write their hashes down
	$(BIN)/python -m pip install -q uv
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url pyproject.toml --group build -o requirements.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-emit-index-url -c requirements.txt pyproject.toml --group build --group dev -o requirements-dev.txt

audit: .venv/tools/.made  ## known vulnerabilities of the locked packages; fails where nobody can be asked
	.venv/tools/bin/pip-audit --strict --require-hashes --disable-pip --progress-spinner off -r requirements.txt

sbom: .venv/tools/.made  ## the locked packages, with hashes, as CycloneDX into dist/; the same lock, the same bytes
	@mkdir -p dist
	.venv/tools/bin/cyclonedx-py requirements requirements.txt --pyproject pyproject.toml --output-reproducible \
	  --of JSON -o dist/mesh.cdx.json

wheel: .venv/.dev  ## build the wheel into dist/
	$(BIN)/python -m pip wheel -q --no-deps -w dist .

clean:  ## remove what was built; data/ stays
	rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# uv where it is installed, else venv and pip: same packages, same hashes.
.venv/.run: requirements.txt pyproject.toml
	@.ci/install requirements.txt
	@touch $@

# In an environment of their own: what they need is none of ours.
.venv/tools/.made: .venv/.dev
	$(BIN)/python -m venv --clear .venv/tools
	.venv/tools/bin/python -m pip install -q pip-audit==2.10.1 cyclonedx-bom==7.5.0
	@touch $@

.venv/.dev: requirements.txt requirements-dev.txt pyproject.toml
	@.ci/install requirements-dev.txt
	@touch .venv/.run $@
