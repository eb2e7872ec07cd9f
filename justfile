# One plain cargo line a task; `.ci/run` has the checks in order and does not need `just`.

default:
    @just --list

# Type-check everything
check:
    cargo check --workspace --all-targets

# Format
fmt:
    cargo fmt --all

# Lint, warnings denied
clippy:
    cargo clippy --workspace --all-targets -- -D warnings

# All tests
test:
    cargo test --workspace

# Operators and parity with the vectors of a lesser processor: avx2 or scalar
test-simd SIMD:
    BIFORMER_SIMD={{SIMD}} cargo test --workspace --test agreement --test gradients --test edge_cases --test official

# Agreement with the official code; BIFORMER_FIXTURES names another folder of fixtures
test-parity:
    cargo test --workspace parity::

# Kill a training run at ten random moments, resume it, compare weights and metrics
test-kill: build
    crates/biformer-cli/tests/kill_and_resume.sh

# Several processes under mpirun; needs libopenmpi-dev, openmpi-bin, libclang-dev
test-mpi:
    cargo test --workspace --features biformer-cli/mpi --test cli mpi::

# Operators on a GPU against the CPU: vulkan, wgpu, metal or cuda. CONTRIBUTING.md has one in software
test-gpu FEATURE="vulkan":
    cargo test --release -p biformer-ops --features {{FEATURE}} gpu::

# All figures of a GPU: models and attention against PyTorch, and kernels against their definitions
bench-gpu OFFICIAL FEATURE="vulkan":
    cargo build --release --features {{FEATURE}}
    python3 crates/biformer-cli/benches/peers/gpu.py --official {{OFFICIAL}} --biformer target/release/biformer \
        --device {{FEATURE}} --ours-precision f32 bf16 f16
    BURN_DEVICE={{FEATURE}} cargo bench -p biformer-ops --features {{FEATURE}} --bench operators

# The page of `visualize` in a browser; needs python3, chromium, chromium-driver
test-browser:
    cargo test --workspace --no-run
    python3 crates/biformer-cli/tests/browser/visualize.py target/debug/biformer

# Average precision against pycocotools; needs python3 with pycocotools and numpy
test-coco:
    cargo build --release --example coco_eval
    python3 crates/biformer/tests/pycocotools/compare.py target/release/examples/coco_eval

# Documentation, warnings denied
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Release binary
build:
    cargo build --release

# Draw pictures, train, evaluate, show predictions
demo *FLAGS:
    cargo run --release -- demo {{FLAGS}}

# Everything that CI runs
ci:
    .ci/run
