# The image heddle/control-plane: one static binary, and the public authorities. Build it from the repository's root:
#   docker build -f install/images/control-plane.Dockerfile -t heddle/control-plane:0.1.0 .
FROM rust:1.95.0-bookworm AS build
WORKDIR /build
COPY . .
RUN target="$(rustc --print host-tuple)" \
    && cargo --config .cargo/static.toml build --locked --profile dist --target "$target" -p heddle-control-plane \
    && cp "target/$target/dist/heddle-control-plane" /heddle-control-plane

FROM scratch
# For a collector whose certificate is of a public authority.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /heddle-control-plane /heddle-control-plane
USER 65532:65532
ENTRYPOINT ["/heddle-control-plane"]
