# Each target sets up what it needs. Only Python 3.11 or 3.12, pip and make are expected.
#   make screen               the main job on the sample studies; INBOX=folder for yours
#   make reading-room         the page for radiologists with the sample studies; asks for a password at the first time
#   make test                 the suite without what is marked slow, against a real Redis and a real PostgreSQL
#   make test-all             the whole suite
#   make check                ruff, mypy, the import contracts, and that the generated pages are up to date
#   make bench                speed, memory and latency (an hour and a half, 35 GB of disk); WRITE=1 keeps the results;
#                             PARTS="throughput cold" only these; IMAGES=2000 fewer for the memory; ROUNDS=3; SMALL=1 to try
#   make fuzz                 100,000 damaged files through the whole program; FILES=2000 SEED=7; FIRST=1000 goes on; ONLY=1234 for one
#   make chaos                everything is killed, cut off and filled while studies arrive and are read; STUDIES=1000 SEED=1; WRITE=1 keeps it
#   make images               builds the images of docker/ with Podman on a stand-in of their base, and runs them; needs root
#   make lock                 resolve the lock files anew (needs uv)

PYTHON ?= $(shell command -v python3.12 >/dev/null 2>&1 && python3.12 -c '' 2>/dev/null && echo python3.12 || \
            (command -v python3.11 >/dev/null 2>&1 && python3.11 -c '' 2>/dev/null && echo python3.11) || echo python3)
INBOX ?= tests/data/inbox
STUDIES ?= 1000
SEED ?= 1
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PROCESSES ?= 2
PYTEST = $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile
SOURCES := worker schema trainer

.PHONY: screen reading-room test test-all check bench chaos fuzz images lock clean

screen: $(VENV)/worker.stamp
	SCREENING_SETTINGS="$${SCREENING_SETTINGS:-$(or $(wildcard screening.toml),none)}" $(BIN)/worker screen "$(INBOX)"

reading-room: $(VENV)/worker.stamp
	test -e .screening/screening.sqlite || $(BIN)/worker screen "$(INBOX)"
	$(BIN)/worker user list --json | grep -q '"name"' || $(BIN)/worker user add reader --role reader --by make
	$(BIN)/worker web

test: $(VENV)/dev.stamp
	$(PYTEST) -m "not slow" $(TESTS)

test-all: $(VENV)/dev.stamp
	$(PYTEST) $(TESTS)

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.checks

bench: $(VENV)/dev.stamp
	$(BIN)/python -m tests.benchmarks $(PARTS) $(if $(IMAGES),--images $(IMAGES)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
	$(if $(SMALL),--small) $(if $(WRITE),--write)

fuzz: $(VENV)/dev.stamp
	$(BIN)/python -m tests.fuzz $(if $(FILES),--files $(FILES)) $(if $(SEED),--seed $(SEED)) $(if $(FIRST),--first $(FIRST)) $(if $(ONLY),--only $(ONLY))

chaos: $(VENV)/dev.stamp
	$(BIN)/python -m tests.chaos.storm --studies $(STUDIES) --seed $(SEED) $(if $(WRITE),--write)

images: $(VENV)/dev.stamp
	$(BIN)/python -m tests.images.prove $(if $(IMAGE),--image $(IMAGE)) $(if $(INTERPRETER),--interpreter $(INTERPRETER))

$(VENV)/worker.stamp: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; v in ((3, 11), (3, 12)) or sys.exit( \
	"Python 3.11 or 3.12 is needed, not %d.%d: name one with  make PYTHON=python3.12 ..." % v)'
	@$(PYTHON) -c 'import platform, os; p = (platform.system(), platform.machine()); \
	p == ("Linux", "x86_64") or os.environ.get("SCREENING_BROKER") or print( \
	"The embedded Redis is for Linux x86-64 only: here, set SCREENING_BROKER to a Redis URL before you screen.")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	$(BIN)/python -m compileall -q $(SOURCES)
	touch $@

$(VENV)/dev.stamp: requirements-dev.lock $(VENV)/worker.stamp
	$(PIP) install --require-hashes -r requirements-dev.lock
	touch $@

LOCK := uv pip compile pyproject.toml --group build --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" --quiet
lock:
	$(LOCK) --extra web --extra dicom -o requirements.lock
	$(LOCK) --extra trainer --extra s3 --extra dicom --extra web --extra test --constraint requirements.lock -o requirements-dev.lock

clean:
	rm -rf $(VENV) .screening build *.egg-info
