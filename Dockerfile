# The image of rexd: docker build --tag rexd . (or buildah bud).
#
# The build needs one base image. The final image has the binary and only those files of the base that the binary uses. It
# runs with the glibc that it was linked with.

# Debian 12 with Rust, a C compiler and make. jemalloc and aws-lc need the last two. The digest is what counts: a tag can move.
# tests/image/bases refuses a base without one.
ARG BUILD_IMAGE=docker.io/library/rust:1.95-bookworm@sha256:6258907abe69656e41cd992e0b705cdcfabcbbe3db374f92ed2d47121282d4a1
FROM ${BUILD_IMAGE} AS build
WORKDIR /build

# It keeps the names and versions of all crates in the binary, where scanners read them.
RUN command -v cargo-auditable || cargo install --locked cargo-auditable@0.7.7

# Build the dependencies with empty sources first. This layer is built again only when the manifest changes.
# .cargo holds jemalloc's settings, which are compiled in.
COPY Cargo.toml Cargo.lock build.rs ./
COPY .cargo .cargo
COPY proto proto
RUN mkdir src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs \
    && cargo auditable build --release --locked --features jemalloc \
    && rm -r src

COPY . .
# COPY keeps modification times. cargo skips files that are older than its last build, so make all of them newer.
RUN find build.rs proto src -type f -exec touch {} + \
    && cargo auditable build --release --locked --features jemalloc

# The files of the final image: the binary, its libraries, CA certificates, user 65532, and name resolution through
# /etc/hosts and DNS. Scanners read the package versions from /var/lib/dpkg/status.d.
RUN set -eu \
    && mkdir -p /image/usr/local/bin /image/etc/ssl/certs /image/var/lib/dpkg/status.d \
    && cp target/release/rexd /image/usr/local/bin/ \
    && ldd target/release/rexd | grep -o '/[^ ]*' | xargs -I '{}' cp -L --parents '{}' /image/ \
    && cp -L /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
    && cp -L /etc/os-release /image/etc/ \
    && echo 'root:x:0:0:root:/:/sbin/nologin' > /image/etc/passwd \
    && echo 'nonroot:x:65532:65532:nonroot:/:/sbin/nologin' >> /image/etc/passwd \
    && printf 'root:x:0:\nnonroot:x:65532:\n' > /image/etc/group \
    && echo 'hosts: files dns' > /image/etc/nsswitch.conf \
    && for package in libc6 libgcc-s1 ca-certificates; do \
        dpkg-query --status "$package" > "/image/var/lib/dpkg/status.d/$package" \
        && cp -L --parents "/usr/share/doc/$package/copyright" /image/; \
    done

FROM scratch
COPY --from=build /image/ /

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="rexd" \
      org.opencontainers.image.description="One gRPC service for the operations of container registries" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# The service's own default is the loopback address, which is unreachable from outside the container.
ENV REXD_LISTEN=0.0.0.0:50051 \
    REXD_OPS_LISTEN=0.0.0.0:9090
EXPOSE 50051 9090
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/rexd"]
CMD ["serve"]
