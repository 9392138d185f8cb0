# The image of every role: docker build -t mlops-hypervisor .
#
# BASE is an image with a shell and Python 3.11 or newer with `venv`. The default is pinned by digest, so that every
# build starts from the same bytes. `docker pull python:3.12-slim-bookworm` prints a newer digest:
#   docker build --build-arg BASE=python:3.12-slim-bookworm@sha256:... -t mlops-hypervisor .
#
# EXTRAS are the extras of pyproject.toml to install. `optimal`, the solver of `solver: exact`, is large, so it is not
# installed by default: --build-arg EXTRAS="telemetry optimal"
ARG BASE=python:3.12-slim-bookworm@sha256:782412e85d0f0984994c290652577d4018aff08145c85b262bb63dc0c7522254

FROM ${BASE} AS build
ENV UV_PROJECT_ENVIRONMENT=/opt/hypervisor \
    UV_PYTHON_DOWNLOADS=never \
    UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1 \
    UV_NO_CACHE=1 \
    UV_SYSTEM_CERTS=true \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --quiet "uv>=0.9,<1"
WORKDIR /src
ARG EXTRAS=telemetry
# Dependencies first: they change less often than the code.
COPY pyproject.toml uv.lock ./
RUN /opt/uv/bin/uv sync --frozen --no-dev $(for extra in $EXTRAS; do echo --extra $extra; done) --no-install-project
COPY README.md LICENSE ./
COPY src ./src
RUN /opt/uv/bin/uv sync --frozen --no-dev $(for extra in $EXTRAS; do echo --extra $extra; done) --no-editable

FROM ${BASE}
LABEL org.opencontainers.image.title="MLOps Hypervisor" \
      org.opencontainers.image.licenses="MIT"
# Not every base has useradd.
RUN echo hypervisor:x:10001: >>/etc/group \
    && echo hypervisor:x:10001:10001::/var/lib/hypervisor:/usr/sbin/nologin >>/etc/passwd \
    && mkdir -p -m 0700 /var/lib/hypervisor \
    && chown 10001:10001 /var/lib/hypervisor
COPY --from=build /opt/hypervisor /opt/hypervisor
# HOST is every interface of the container, so the server requires a SECRET_KEY.
ENV PATH=/opt/hypervisor/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    PORT=8000 \
    DATA_DIR=/var/lib/hypervisor \
    DATABASE_URL=sqlite:////var/lib/hypervisor/hypervisor.db \
    LOG_FORMAT=json
USER 10001:10001
WORKDIR /var/lib/hypervisor
VOLUME /var/lib/hypervisor
EXPOSE 8000
# Checks only that the process lives; the proxy checks whether it can work (/readyz).
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python3", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/healthz', timeout=4)"]
ENTRYPOINT ["hypervisor"]
CMD ["serve"]
