# The recipes of this repository; continuous integration runs those that check. `just --list` shows them.

# Everything that must pass before a change lands.
check: format-check lint docs deny test

# Formats all code.
format:
    cargo fmt --all

# Fails where the code is not formatted.
format-check:
    cargo fmt --all --check

# All lints, as errors; those of the tests that are not run by default, too.
lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings
    cargo clippy --workspace --test cluster --locked -- -D warnings

# The documentation of all crates, with warnings as errors.
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked

# Licences, sources and banned crates. Needs cargo-deny.
deny:
    cargo deny --locked check bans licenses sources

# All tests: unit, property, snapshot, and end to end.
test:
    cargo test --workspace --locked

# Builds everything and runs the demo.
demo *arguments:
    cargo build --release --locked
    ./target/release/meshctl demo {{ arguments }}

# Measures Heddle beside others on a quiet machine, and draws the results into bench/README.md. The proxy is built by itself, as the
# images have it: together with others it has what they want of crates that they share.
bench *arguments:
    cargo --config .cargo/static.toml build --profile dist --target "$(rustc --print host-tuple)" --workspace --bin heddle-bench --bin heddle-control-plane --bin heddle-local --locked
    cargo --config .cargo/static.toml build --profile dist --target "$(rustc --print host-tuple)" -p heddle-proxy --locked
    "${CARGO_TARGET_DIR:-target}/$(rustc --print host-tuple)/dist/heddle-bench" run {{ arguments }}
    "${CARGO_TARGET_DIR:-target}/$(rustc --print host-tuple)/dist/heddle-bench" render

# Builds the proxy from what one was seen doing (profile-guided): prints where it is. A quarter of an hour.
profiled:
    ./bench/profiled

# Counts the instructions of a request under valgrind, and holds them against what was accepted last.
instructions *arguments:
    CARGO_INCREMENTAL=0 cargo build --profile counting --workspace --locked --bin heddle-bench --bin heddle-control-plane --bin heddle-local --bin heddle-proxy
    "${CARGO_TARGET_DIR:-target}/counting/heddle-bench" instructions --requests 2000 --budget bench/results/instructions.json \
        --folder "${CARGO_TARGET_DIR:-target}/instructions" {{ arguments }}

# The tests on a real Kubernetes, in namespaces of their own. Needs root, Go, and Debian's containerd and etcd.
test-cluster *arguments:
    cargo test --workspace --test cluster --locked {{ arguments }}

# A real Kubernetes with the mesh's images: `just cluster up`, `just cluster down`, `just cluster run -- COMMAND`.
cluster *arguments:
    cargo run --bin heddle-cluster --locked -- {{ arguments }}

# The Gateway API's conformance suite for meshes, on a cluster of its own; writes its report. See docs/conformance.md.
conformance *arguments:
    ./tests/cluster/conformance/run "$(cargo run --bin heddle-cluster --locked -- programs)" {{ arguments }}
