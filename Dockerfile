# The image: one static binary, nothing else. For linux/amd64 and linux/arm64:
#
#   docker buildx build --platform linux/amd64,linux/arm64 --tag REGISTRY/ringfence:VERSION --push .
#
# `make image` builds the binary outside and makes the same image by the last stage alone, so it pulls nothing.
# libelf and the C library in the binary are under the LGPL: with this file and the sources anybody can link it again.

FROM docker.io/library/rust:1.95-bookworm AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends clang libelf-dev make pkg-config zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN make --assume-old=packages static && cp -r target/image /image

FROM scratch
LABEL org.opencontainers.image.title="ringfence" \
      org.opencontainers.image.description="NetworkPolicy that is true: checked at admission, closed from birth, enforced in the kernel." \
      org.opencontainers.image.licenses="Apache-2.0 AND (GPL-2.0-only OR BSD-2-Clause)"
COPY --from=build /image/ /
# The webhook needs no rights. The agent's pods say that they are root.
USER 65532:65532
ENTRYPOINT ["/ringfence"]
