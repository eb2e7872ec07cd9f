"""Times the official BiFormer under several engines, and ours, in turns on the same cores.

Every peer is a process of its own (`engines.py`), pinned to as many cores as threads, warm and
asleep until its turn; ours is the benchmark command, started afresh each turn (`runners.py`). A
round gives each of them a turn and the next round begins with another, so that noise falls on all
alike. Nothing of the peers is contained here: the official checkout is given by its path.
"""

import argparse
import importlib.util
import json
import os
import shutil
import signal
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any, Iterator

from runners import Case, EngineError, Ours, Peer

MODELS = ["biformer_tiny", "biformer_small", "biformer_base"]
PACKAGES = {
    "eager": [],
    "compile": [],
    "max-autotune": [],
    "onnxruntime": ["onnx", "onnxscript", "onnxruntime"],
    "openvino": ["onnx", "onnxscript", "openvino"],
}
UNFIT = {  # engines that a bench leaves out, and why
    "inference": {},
    "train": dict.fromkeys(["max-autotune", "onnxruntime", "openvino"], "for frozen weights only"),
    "attention": dict.fromkeys(
        ["onnxruntime", "openvino"], "writes out the expanded keys and values, 9 GB at this size"
    ),
}
DEFAULT_BATCH = {"inference": 1, "train": 8, "attention": 1}
ATTENTION_SIZE = (200, 336)  # a detection feature map at stride 4, no multiple of 16 windows


def main() -> int:
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the engines end as well
    results = []
    for case in cases(args):
        print(f"\n{case}", flush=True)
        with tempfile.TemporaryDirectory(prefix="peers-") as folder:
            results.append(run_case(case, args, Path(folder)))
        print_table(results[-1])
    print()
    for result in results:
        print(json.dumps(result))
    return 1 if any(result["failed"] for result in results) else 0


def cases(args: argparse.Namespace) -> list[Case]:
    found = []
    for bench in args.bench:
        attention = bench == "attention"
        models = ["bra"] if attention else args.model
        batches = [1] if attention else args.batch_size or [DEFAULT_BATCH[bench]]
        size = ATTENTION_SIZE if attention else (args.img_size, args.img_size)
        for model, batch, threads in product(models, batches, args.threads):
            found.append(Case(bench, model, batch, *size, threads))
    return found


def run_case(case: Case, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All engines of one case: set up one after the other, then timed in turns."""
    engines, skipped = usable(args.engines, case.bench)
    failed: dict[str, str] = {}
    runners: dict[str, Ours | Peer] = {"ours": Ours(case, args.biformer)}
    job = asdict(case) | dict(
        folder=str(folder),
        official=str(args.official),
        onnx=any("onnx" in PACKAGES[engine] for engine in engines),
    )
    try:
        Peer(job | dict(engine="reference")).close()
        for engine in engines:
            with reporting(engine, failed):
                runners[engine] = Peer(job | dict(engine=engine))
                print(f"  {engine} is ready ({runners[engine].facts['setup_s']:.0f} s)", flush=True)
        for round_index in range(args.rounds):
            for engine in rotated([name for name in runners if name not in failed], round_index):
                with reporting(engine, failed):
                    runners[engine].run(args.runs)
    except EngineError as error:
        failed["reference"] = str(error)
    finally:
        for runner in runners.values():
            runner.close()
    rows = {name: runner.summary() for name, runner in runners.items() if name not in failed}
    return asdict(case) | dict(engines=with_ratios(rows), skipped=skipped, failed=failed)


@contextmanager
def reporting(engine: str, failed: dict[str, str]) -> Iterator[None]:
    """Notes an engine's error under its name and lets the other engines go on."""
    try:
        yield
    except EngineError as error:
        failed[engine] = str(error)


def usable(engines: list[str], bench: str) -> tuple[list[str], dict[str, str]]:
    skipped = {}
    for engine in engines:
        missing = [name for name in PACKAGES[engine] if importlib.util.find_spec(name) is None]
        if missing:
            skipped[engine] = f"needs {', '.join(missing)}, not installed"
        elif engine in UNFIT[bench]:
            skipped[engine] = UNFIT[bench][engine]
    return [engine for engine in engines if engine not in skipped], skipped


def rotated(names: list[str], by: int) -> list[str]:
    start = by % max(len(names), 1)
    return names[start:] + names[:start]


def with_ratios(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    ours = rows.get("ours", {}).get("median_ms")
    rows = {name: row for name, row in rows.items() if row}
    return {n: r | dict(ratio=r["median_ms"] / ours if ours else None) for n, r in rows.items()}


def print_table(result: dict[str, Any]) -> None:
    heads = ["engine", "median ms", "p90 ms", "images/s", "peak RSS MB", "running MB", "peer/ours"]
    print("  " + f"{heads[0]:14}" + "".join(f"{head:>13}" for head in heads[1:]))
    keys = ["median_ms", "p90_ms", "images_per_second", "peak_rss_mb", "run_peak_rss_mb", "ratio"]
    for name, row in result["engines"].items():
        cells = ["-" if row.get(key) is None else f"{row[key]:.2f}" for key in keys]
        print(f"  {name:14}" + "".join(f"{cell:>13}" for cell in cells))
    for word in ("skipped", "failed"):
        for name, reason in result[word].items():
            print(f"  {name:14} {word}: {reason}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--official", type=Path, required=True, help="checkout of rayleizhu/BiFormer")
    add("--biformer", type=Path, required=True, help="our command, built with --release")
    add("--model", nargs="+", choices=MODELS, default=MODELS[:1])
    add("--batch-size", nargs="+", type=positive, help="default: 1, and 8 for training")
    add("--threads", nargs="+", type=positive, default=[1])
    add("--img-size", type=positive, default=224)
    add("--engines", nargs="+", choices=PACKAGES, default=list(PACKAGES))
    add("--bench", nargs="+", choices=DEFAULT_BATCH, default=["inference"])
    add("--runs", type=positive, default=10, help="timed runs of a peer in each round")
    add("--rounds", type=positive, default=3)
    args = parser.parse_args()
    args.official, args.biformer = args.official.resolve(), args.biformer.resolve()
    if problem := first_problem(args):
        parser.error(problem)
    return args


def first_problem(args: argparse.Namespace) -> str | None:
    if not (args.official / "models" / "biformer.py").is_file():
        return f"--official {args.official}: not the official checkout"
    if not (args.biformer.is_file() and os.access(args.biformer, os.X_OK)):
        return f"--biformer {args.biformer}: not a program"
    if args.img_size % 112:
        return f"--img-size {args.img_size}: 7 regions a side at stride 16 need a multiple of 112"
    cores = len(os.sched_getaffinity(0))
    if max(args.threads) > cores:
        return f"--threads {max(args.threads)}: this machine gives {cores} cores"
    if not shutil.which("taskset"):
        return "taskset is not installed (Debian: util-linux)"
    missing = [name for name in ("torch", "einops", "numpy") if not importlib.util.find_spec(name)]
    if missing:
        return f"the reference needs {', '.join(missing)}: pip install {' '.join(missing)}"
    return None


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


if __name__ == "__main__":
    sys.exit(main())
