# The command line, and the image of a Docker or Kubernetes work pool: docs/operations.md.
#   docker build -t retrieval-sfm .
#   docker run --rm -v "$PWD/photos:/photos:ro" -v retrieval-sfm:/store retrieval-sfm run /photos --store /store
# PIP_EXTRA_INDEX_URL, a build argument that pip reads: where torch has wheels for CPUs, smaller by gigabytes.
FROM python:3.11-slim

ARG PIP_EXTRA_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

WORKDIR /opt/retrieval-sfm
COPY pyproject.toml constraints.txt ./
# What the package needs, in a layer that an edit of the code does not touch.
RUN for package in browse configs flows report retrieval retrieval/benchmarks sfm storage tasks; do \
        mkdir "$package" && touch "$package/__init__.py"; done \
    && touch README.md LICENSE \
    && pip install -c constraints.txt -e '.[browse,demo,dask]'
COPY . .
RUN python -m compileall -q browse configs flows report retrieval sfm storage tasks \
    && useradd --create-home --uid 1000 app \
    && install -d -o app /store

USER 1000
VOLUME /store
ENV RETRIEVAL_SFM_STORE=/store
EXPOSE 4200
ENTRYPOINT ["/opt/retrieval-sfm/docker-entrypoint.sh"]
CMD ["--help"]
