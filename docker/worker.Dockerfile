# The device worker: `python -m workers.gpu --queue gpu.0 --device 0`.
#
# For CPU as it stands. For NVIDIA devices take torch as PyPI has it, which brings its own CUDA libraries; the driver
# comes from the host through NVIDIA's container toolkit. BASE may be a CUDA image where other libraries are needed:
#     docker build -f docker/worker.Dockerfile -t nightshift-worker:gpu --build-arg TORCH_INDEX= \
#         --build-arg BASE=docker.io/nvidia/cuda:12.8.1-runtime-ubuntu24.04 .
# An index of packages of one's own goes into pip's configuration: --secret id=pip,src=/path/to/pip.conf

# Any Debian or Ubuntu; one without Python 3.11 or newer is given its own.
ARG BASE=docker.io/library/python:3.11.14-slim-bookworm

FROM ${BASE} AS base
RUN python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
    || { apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*; }

FROM base AS build
# The same version as a build for CPU, which its own index has beside PyPI's for CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
COPY config/lock config/lock
# Wheels only: nothing is compiled, so no stage holds a compiler.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv /opt/nightshift \
    && /opt/nightshift/bin/pip install --no-cache-dir --only-binary :all: \
        ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} --requirement config/lock/worker.txt
COPY pyproject.toml setup.cfg ./
COPY app app
COPY config config
COPY tasks tasks
COPY workers workers
# setuptools is in the lock, because torch needs it.
RUN /opt/nightshift/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/nightshift/bin/pip install --no-deps --no-index /wheels/*.whl \
    && /opt/nightshift/bin/pip uninstall --yes pip

FROM base
RUN useradd --system --uid 10001 --home-dir /var/lib/nightshift --create-home --shell /usr/sbin/nologin nightshift \
    && install --directory --owner nightshift --group nightshift /var/lib/nightshift/metrics /var/lib/nightshift/cache
COPY --from=build /opt/nightshift /opt/nightshift
ENV PATH=/opt/nightshift/bin:$PATH \
    HOME=/var/lib/nightshift \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    NIGHTSHIFT_CACHE_DIR=/var/lib/nightshift/cache \
    NIGHTSHIFT_METRICS_DIR=/var/lib/nightshift/metrics
WORKDIR /var/lib/nightshift
# By number, so that Kubernetes can see that it is not root.
USER 10001
CMD ["python", "-m", "workers.gpu", "--queue", "cpu.0"]
