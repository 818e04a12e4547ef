# The lab's image: the program `trainer`, with TensorFlow for CPUs. It never goes where patients' studies are screened.
#   docker build -f docker/trainer.Dockerfile -t chest-screening-trainer .
#   docker run --rm --network none --read-only --tmpfs /tmp --cap-drop ALL --user "$(id -u)" \
#     --volume /data:/data:ro --volume "$PWD/runs:/runs" chest-screening-trainer fit --data /data --out /runs/next ...

FROM python:3.12-slim-trixie AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
WORKDIR /src
RUN python -m venv /opt/screening
# this lock also pins the tools of the tests: training uses the versions that were tested
COPY requirements-dev.lock ./
RUN /opt/screening/bin/pip install --require-hashes -r requirements-dev.lock
COPY pyproject.toml README.md LICENSE ./
COPY schema schema
COPY worker worker
COPY trainer trainer
RUN /opt/screening/bin/pip install --no-deps --no-build-isolation . \
    && /opt/screening/bin/pip uninstall --yes pip
# fails here when the recipes or the door to ONNX cannot be loaded
WORKDIR /
RUN /opt/screening/bin/trainer recipes > /dev/null \
    && /opt/screening/bin/python -c "import tensorflow, tf2onnx, trainer.export.graph"

FROM python:3.12-slim-trixie
LABEL org.opencontainers.image.title="chest-screening trainer" \
      org.opencontainers.image.description="Trains and measures screening models. Research use only." \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --system --gid 10001 screening \
    && useradd --system --uid 10001 --gid 10001 --home-dir /runs --shell /usr/sbin/nologin screening \
    && install -d -m 0750 -o screening -g screening /runs
COPY --from=build /opt/screening /opt/screening
ENV PATH=/opt/screening/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /runs
VOLUME ["/runs"]
STOPSIGNAL SIGTERM
# a command that ends, no service
HEALTHCHECK NONE
ENTRYPOINT ["trainer"]
CMD ["recipes"]
