# Everything that runs without torch: api, dispatcher, control, webhooks, beat, Flower, `nightshift migrate`. The
# command chooses; docker/compose.yml and docker/k8s name it, and a health check for each.
#
# Build it with `make images`, or from the root of a checkout:
#     docker build -f docker/api.Dockerfile -t nightshift-api .
# An index of packages of one's own goes into pip's configuration: --secret id=pip,src=/path/to/pip.conf

# Any Debian or Ubuntu; one without Python 3.11 or newer is given its own.
ARG BASE=docker.io/library/python:3.11.14-slim-bookworm

FROM ${BASE} AS base
RUN python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
    || { apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*; }

FROM base AS build
WORKDIR /src
COPY config/lock config/lock
# Wheels only: nothing is compiled, so no stage holds a compiler.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv /opt/nightshift \
    && /opt/nightshift/bin/pip install --no-cache-dir --only-binary :all: --requirement config/lock/api.txt
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv /opt/builder \
    && /opt/builder/bin/pip install --no-cache-dir "$(grep '^setuptools==' config/lock/worker.txt)"
COPY pyproject.toml setup.cfg ./
COPY app app
COPY config config
COPY tasks tasks
COPY workers workers
RUN /opt/builder/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/nightshift/bin/pip install --no-deps --no-index /wheels/*.whl \
    && /opt/nightshift/bin/pip uninstall --yes pip setuptools

FROM base
RUN useradd --system --uid 10001 --home-dir /var/lib/nightshift --create-home --shell /usr/sbin/nologin nightshift \
    && install --directory --owner nightshift --group nightshift /var/lib/nightshift/metrics
COPY --from=build /opt/nightshift /opt/nightshift
ENV PATH=/opt/nightshift/bin:$PATH \
    HOME=/var/lib/nightshift \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    NIGHTSHIFT_API_BIND=0.0.0.0:8000 \
    NIGHTSHIFT_METRICS_BIND=0.0.0.0:9100 \
    NIGHTSHIFT_METRICS_DIR=/var/lib/nightshift/metrics
WORKDIR /var/lib/nightshift
# By number, so that Kubernetes can see that it is not root.
USER 10001
EXPOSE 8000 9100
CMD ["gunicorn", "-c", "python:config.gunicorn", "app.wsgi:app"]
