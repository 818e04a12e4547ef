# The worker's image: the program `worker` and `celery -A worker.app worker`, one Python environment, one user, no root.
#   docker build -f docker/worker.Dockerfile -t chest-screening-worker .
#   docker build -f docker/worker.Dockerfile -t chest-screening-worker-gpu --build-arg CUDA=1 .     adds CUDA and cuDNN
# It holds what requirements.lock pins and the package: no compiler, no pip, no TensorFlow, no trainer dependencies.

FROM python:3.12-slim-trixie AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
WORKDIR /src
RUN python -m venv /opt/screening
# the lock alone first: this layer is made anew only when a dependency changes. --only-binary: no setup.py runs as root
COPY requirements.lock docker/cuda.lock ./
RUN /opt/screening/bin/pip install --require-hashes --only-binary :all: -r requirements.lock
ARG CUDA=""
RUN if [ -n "$CUDA" ]; then /opt/screening/bin/pip install --require-hashes --only-binary :all: -r cuda.lock; fi
COPY pyproject.toml README.md LICENSE ./
COPY schema schema
COPY worker worker
COPY trainer trainer
RUN /opt/screening/bin/pip install --no-deps --no-build-isolation . \
    && /opt/screening/bin/pip uninstall --yes pip
# fails here, not in the hospital, when the package lacks its model or the model its card
WORKDIR /
RUN /opt/screening/bin/worker model show > /dev/null \
    && /opt/screening/bin/python -c "import sys, importlib.util as u; \
       sys.exit(any(map(u.find_spec, ('tensorflow', 'keras', 'torch', 'pip'))))"

FROM python:3.12-slim-trixie
LABEL org.opencontainers.image.title="chest-screening worker" \
      org.opencontainers.image.description="Screens chest radiographs and orders a worklist. Research use only." \
      org.opencontainers.image.licenses="Apache-2.0"
# a fixed number, so that owners of bind mounts can be set before the first start
RUN groupadd --system --gid 10001 screening \
    && useradd --system --uid 10001 --gid 10001 --home-dir /var/lib/screening --shell /usr/sbin/nologin screening \
    && install -d -m 0700 -o screening -g screening /var/lib/screening /store /reports \
    && install -d -m 0750 -o screening -g screening /inbox
COPY --from=build /opt/screening /opt/screening
ENV PATH=/opt/screening/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SCREENING_HOME=/var/lib/screening \
    SCREENING_STORE=/store
# bytecode came with the environment, so nothing is written outside the volumes and /tmp: run it with --read-only
USER 10001:10001
WORKDIR /var/lib/screening
VOLUME ["/var/lib/screening", "/store", "/inbox"]
STOPSIGNAL SIGTERM
# database, broker, model with its goldens, provider, store and disk; 2 s of one core each time, so not too often
HEALTHCHECK --interval=60s --timeout=30s --start-period=60s --retries=3 CMD ["worker", "check"]
CMD ["worker", "run", "/inbox"]
