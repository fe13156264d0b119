# The image of rexd: docker build --tag rexd . (or buildah bud).

# Debian 12, as the final image: the binary links the same glibc. It brings the C compiler and the make that jemalloc and
# aws-lc are built with; a slimmer base would need both installed.
FROM docker.io/library/rust:1.95-bookworm AS build
WORKDIR /build

# Dependencies first, with empty sources, so that they are compiled again only when the manifest changes.
# .cargo holds jemalloc's settings, which are compiled in.
COPY Cargo.toml Cargo.lock build.rs ./
COPY .cargo .cargo
COPY proto proto
RUN mkdir src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs \
    && cargo build --release --locked --features jemalloc \
    && rm -r src

COPY . .
# Newer than the empty ones, whatever time the files bring along.
RUN find src -name '*.rs' -exec touch {} + \
    && cargo build --release --locked --features jemalloc

# Holds glibc, libgcc and the CA bundle, and neither a shell nor a package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /build/target/release/rexd /usr/local/bin/rexd

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="rexd" \
      org.opencontainers.image.description="One gRPC service for the operations of container registries" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# On the loopback, the service's own default, nobody outside the container would reach it.
ENV REXD_LISTEN=0.0.0.0:50051 \
    REXD_OPS_LISTEN=0.0.0.0:9090
EXPOSE 50051 9090
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/rexd"]
CMD ["serve"]
