# The image heddle/injector: one static binary, and nothing else. Build it from the repository's root:
#   docker build -f install/images/injector.Dockerfile -t heddle/injector:0.1.0 .
FROM rust:1.95.0-bookworm AS build
WORKDIR /build
COPY . .
RUN target="$(rustc --print host-tuple)" \
    && cargo --config .cargo/static.toml build --locked --profile dist --target "$target" -p heddle-injector \
    && cp "target/$target/dist/heddle-injector" /heddle-injector

FROM scratch
COPY --from=build /heddle-injector /heddle-injector
USER 65532:65532
ENTRYPOINT ["/heddle-injector"]
