#!/usr/bin/env bash
# Kills a training run (SIGKILL) at ten random moments, resumes it each time, and compares weights and
# metrics with those of a run that nobody disturbed. Usage: kill_and_resume.sh [path/to/biformer]
set -euo pipefail
biformer=$(realpath "${1:-target/release/biformer}")
kills=10
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

"$biformer" demo --train-per-class 40 --epochs 1 --output drawn 2>/dev/null >/dev/null
# All that draws numbers or has a state of its own.
train=("$biformer" train --data drawn/data --img-size 32 --batch-size 8 --grad-accum-steps 2
    --epochs 20 --drop-path 0.2 --model-ema --clip-grad 1 --aa rand-m9-mstd0.5-inc1 --reprob 0.25
    --mixup 0.8 --cutmix 1.0 --aug-repeats 2)

start=$(date +%s%N)
"${train[@]}" --output undisturbed >/dev/null 2>&1
milliseconds=$(((($(date +%s%N) - start)) / 1000000))
echo "undisturbed run: $milliseconds ms"

# A run that is killed repeats at most an epoch, one of twenty: so it comes on, and not to its end.
command=("${train[@]}" --output killed)
for kill in $(seq $kills); do
    "${command[@]}" >/dev/null 2>&1 &
    wait_ms=$((milliseconds / 20 + RANDOM % (milliseconds / 12)))
    sleep "$(printf '%d.%03d' $((wait_ms / 1000)) $((wait_ms % 1000)))"
    if ! kill -KILL $! 2>/dev/null; then
        echo "ended before kill $kill: take a machine that does nothing else" >&2
        exit 1
    fi
    wait $! 2>/dev/null || true
    epoch=$(($(wc -l <killed/results.csv 2>/dev/null || echo 1) - 1))
    echo "kill $kill after $wait_ms ms, $epoch epochs done"
    if [ -e killed/recipe.toml ]; then
        command=("$biformer" train --resume killed)
    fi
done
"$biformer" train --resume killed >/dev/null 2>&1

for weights in last.safetensors best.safetensors; do
    cmp "undisturbed/$weights" "killed/$weights"
    echo "$weights: $(sha256sum <"killed/$weights" | cut -c 1-16), the same"
done
# All columns but images_per_second and seconds, and but lr, whose last digit may move on its way
# through metrics.jsonl.
columns() { cut -d, -f1-6,10- "$1/results.csv"; }
diff <(columns undisturbed) <(columns killed)
echo "results.csv: the same but for times and rates"
