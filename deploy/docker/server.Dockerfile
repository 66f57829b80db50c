# PostgreSQL with the extension siphon, on the image of the PostgreSQL Docker community. After `make deb SUITE=trixie`:
#
#   docker build -f deploy/docker/server.Dockerfile -t siphon-server:17 .
#
# PostgreSQL 15 is SUITE=bookworm, POSTGRESQL=15. `make check-packages` runs what stands here.
ARG SUITE=trixie
ARG POSTGRESQL=17
FROM postgres:${POSTGRESQL}-${SUITE}
ARG SUITE
ARG POSTGRESQL
COPY scripts/install-packages build/${SUITE}/deb/postgresql-${POSTGRESQL}-siphon_*.deb /tmp/siphon/
RUN /tmp/siphon/install-packages /tmp/siphon/*.deb && rm -r /tmp/siphon
