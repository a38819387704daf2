# The image heddle/proxy: one static binary, and the public authorities. Build it from the repository's root, with a builder that keeps
# file capabilities (BuildKit and buildah do):
#   docker build -f install/images/proxy.Dockerfile -t heddle/proxy:0.1.0 .
FROM rust:1.95.0-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends libcap2-bin && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
RUN target="$(rustc --print host-tuple)" \
    && cargo --config .cargo/static.toml build --locked --profile dist --target "$target" -p heddle-proxy \
    && cp "target/$target/dist/heddle-proxy" /heddle-proxy
# Permitted, not effective: the redirect, which has the capability in its bounding set, takes it; the proxy, which has not, starts
# all the same. Where an image loses this on its way, set proxy.redirectAsRoot.
RUN setcap cap_net_admin+p /heddle-proxy

FROM scratch
# For a collector whose certificate is of a public authority.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /heddle-proxy /heddle-proxy
USER 15100:15100
ENTRYPOINT ["/heddle-proxy"]
