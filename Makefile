# make run      the whole system on this machine, with data of its own
# make test     everything, with real peers
# make interop-next  the tests of name servers with the versions of the next Debian, in a root of its own (as root)
# make check    format, lint, types
# make bench    every figure beside its peer's, and the table; BENCH="lists transfers" names some
# make scaling  the same figures from 10,000 to 10,000,000 entries, into docs/scaling.md and docs/scaling.svg
# make soak     a thousand versions: does anything grow?
# make fuzz     every property with twenty times as many examples, then each parser with coverage-guided inputs
# make docs     docs/cli.md from the commands, docs/metrics.md from the tables of metrics and log events
# make catalogs  the texts of the source into the catalogs of the other languages, blocklistd/language/catalogs
# make deb      the Debian packages of daemon and client, in build/deb
# make package-test  installs, upgrades and purges them in a root of its own (as root)
# make image    an OCI image of the daemon, where podman, buildah or docker is
# make clean    everything that these made, away
# Each sets up what it needs in .venv; on Debian, packages that are missing are installed where that is allowed.

PYTHON ?= python3
VENV := .venv
FUZZ ?= 30# seconds for each parser
BESIDE ?= $(shell expr 3 '*' `nproc`)# processes of `make test`: most tests wait
STAMP := $(VENV)/.installed

.PHONY: help run test debian-peers python-peers interop-next check tests bench scaling soak fuzz docs catalogs deb package-test image clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

run: $(STAMP)
	@exec $(VENV)/bin/blocklistd demo

# the network is waited for once, not three times: the environment beside Debian's packages, the checks beside the rest
test:
	@$(MAKE) --no-print-directory --jobs=2 debian-peers $(STAMP)
	@$(MAKE) --no-print-directory --jobs=2 check python-peers
	@$(MAKE) --no-print-directory tests

debian-peers python-peers: %-peers:
	@tests/install-peers $*

tests:
	@# whatever the environment says, a module is compiled once and not at each start; and no test waits for the disk:
	@# none cuts the power of the machine
	PYTHONDONTWRITEBYTECODE= $$(command -v eatmydata) $(VENV)/bin/pytest -n $(BESIDE) --dist load --maxschedchunk 1

interop-next: $(STAMP)
	@tests/interop-next -n $(BESIDE) tests/interop

check: $(STAMP)
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy

bench: $(STAMP)
	@bench/install-peers
	@$(VENV)/bin/python -m bench $(BENCH)

scaling: $(STAMP)
	@bench/install-peers
	@$(VENV)/bin/python -m bench.scaling

soak: $(STAMP)
	@$(VENV)/bin/python -m bench.soak

fuzz: $(STAMP)
	@HYPOTHESIS_PROFILE=fuzz $(VENV)/bin/pytest -q -m hypothesis tests/unit tests/property
	@$(VENV)/bin/pip install -q --disable-pip-version-check --no-deps --require-hashes -r requirements-fuzz.lock
	@$(VENV)/bin/python -m tests.fuzz $(FUZZ)

docs: $(STAMP)
	@$(VENV)/bin/python -m blocklistd.cli.reference > docs/cli.md
	@$(VENV)/bin/python -m blocklistd.ops.reference > docs/metrics.md

catalogs: $(STAMP)
	@$(VENV)/bin/python -m tests.catalogs

deb:
	@nice debian/build

package-test: $(STAMP) deb
	@tests/package-test

image: deb
	@engine=$$(command -v podman || command -v buildah || command -v docker) \
	    || { echo "no podman, buildah or docker here: install one of them" >&2; exit 1; }; \
	$$engine build -f Containerfile -t blocklistd .

# The lock files name every package with its version and hashes: requirements.lock what production installs,
# requirements-dev.lock that and the tests' own. The project itself is installed in place.
$(STAMP): requirements.lock requirements-dev.lock setup.cfg pyproject.toml
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || tests/install-packages python3-venv
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(VENV)/bin/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	find blocklistd tests bench -name __pycache__ -prune -exec rm -r {} +
