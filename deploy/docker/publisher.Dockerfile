# siphon-publisher and siphon-tail. After `make deb SUITE=trixie`:
#
#   docker build -f deploy/docker/publisher.Dockerfile -t siphon-publisher:1.0 .
#
# It runs as the user of the server whose rings it reads: 999 is "postgres" in the PostgreSQL Docker community's images.
# `make check-packages` runs what stands here.
ARG SUITE=trixie
FROM debian:${SUITE}-slim
ARG SUITE
COPY scripts/install-packages build/${SUITE}/deb/siphon-publisher_*.deb /tmp/siphon/
RUN /tmp/siphon/install-packages /tmp/siphon/*.deb && rm -r /tmp/siphon
USER 999:999
ENTRYPOINT ["siphon-publisher"]
