"""Times PyTorch's models and attention on a GPU, and ours, in turns.

The peers of a case live in this process (`gpu_engines.py`, `gpu_attention.py`) and sleep until
their turn; ours is the benchmark command, started afresh each turn. A round gives each of them a
turn and the next round begins with another. The last line is everything in JSON, also after Ctrl-C
or SIGTERM: then without the case that was cut.
"""

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any, Iterator

MODELS = ["biformer_tiny", "biformer_small", "biformer_base", "biformer_stl", "swin_tiny"]
PACKAGES = ["torch", "timm", "numpy", "einops"]
DEFAULT_BATCH = {"inference": [1, 32], "train": [32], "attention": [8]}
PICTURES = {"224": (224, 224, 7), "512": (512, 512, 8), "800x1344": (800, 1344, 16)}  # last is S
DIMS, HEAD_DIM = [64, 128, 256, 512], 32  # of BiFormer-T and -S
TOPKS = [1, 4, 16]

if missing := [name for name in PACKAGES if not importlib.util.find_spec(name)]:
    print(f"gpu.py: error: pip install {' '.join(missing)}", file=sys.stderr)
    sys.exit(2)

import timm
import torch

from gpu_engines import MODEL_ENGINES, OPERATOR_ENGINES, PRECISIONS
from gpu_engines import Case, Peer, Source, floor, roofs
from peers import positive, reporting, rotated, with_ratios
from runners import Ours

ENGINES = MODEL_ENGINES + OPERATOR_ENGINES


def main() -> int:
    args = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    torch.backends.cudnn.benchmark = True
    torch._dynamo.config.recompile_limit = 64  # the same code is compiled for every precision
    torch._dynamo.config.fail_on_recompile_limit_hit = True  # rather than time eager code unawares
    report = versions(args) | dict(roofs=roofs(args.precision, args.torch_device), cases=[])
    print(json.dumps(report["roofs"]))
    interrupted = False
    try:
        for case in cases(args):
            print(f"\n{case}", flush=True)
            report["cases"].append(run_case(case, args, report["roofs"]))
            print_table(report["cases"][-1])
    except KeyboardInterrupt:
        interrupted = True
        for number in (signal.SIGINT, signal.SIGTERM):  # a second one would lose the report
            signal.signal(number, signal.SIG_IGN)
    print("\n" + json.dumps(report | dict(interrupted=interrupted)))
    return 1 if interrupted or any(case["failed"] for case in report["cases"]) else 0


def versions(args: argparse.Namespace) -> dict[str, Any]:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    cuda = args.torch_device.type == "cuda"
    return dict(
        date=date.today().isoformat(),
        gpu=torch.cuda.get_device_name(args.torch_device) if cuda else None,
        driver=first_line(*query) if cuda else None,
        cuda=torch.version.cuda,
        torch=torch.__version__,
        timm=timm.__version__,
        ours=first_line(str(args.biformer), "--version"),
        device=args.device,
        torch_device=str(args.torch_device),
    )


def first_line(*command: str) -> str | None:
    try:
        lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    except OSError:
        return None
    return lines[0].strip() if lines else None


def cases(args: argparse.Namespace) -> Iterator[Case]:
    for bench in args.bench:
        batches = args.batch_size or DEFAULT_BATCH[bench]
        if bench != "attention":
            for model, batch in product(args.model, batches):
                yield Case(bench, model, batch)
            continue
        for picture, stage, topk, batch in product(args.picture, args.stage, args.topk, batches):
            height, width, n_win = PICTURES[picture]
            stride, dim = 2 ** (stage + 1), DIMS[stage - 1]
            map_size = -(-height // stride), -(-width // stride)
            yield Case(bench, "bra", batch, *map_size, dim, dim // HEAD_DIM, n_win, topk)


def run_case(case: Case, args: argparse.Namespace, found: dict[str, float]) -> dict[str, Any]:
    """All engines of one case: set up one after the other, then timed in turns."""
    failed: dict[str, str] = {}
    runners: dict[str, Ours | Peer] = {}
    for precision in args.ours_precision:
        if (case.bench, precision) == ("train", "f16"):
            continue  # ours does not train in float16
        name = "ours" if precision == "f32" else f"ours {precision}"
        runners[name] = OursOnGpu(case, precision, args)
    source = Source(args.official, args.torch_device)
    torch._dynamo.reset()
    expected = None
    with reporting("reference", failed):
        expected = Peer(case, source, "eager", "f32", None).answer
    for engine, precision in product(args.engines, args.precision):
        name = f"{engine} {precision}"
        if expected is None or (engine in OPERATOR_ENGINES and case.bench != "attention"):
            continue
        with reporting(name, failed):
            runners[name] = Peer(case, source, engine, precision, expected)
            print(f"  {name} is ready", flush=True)
    for round_index in range(args.rounds):
        for name in rotated([name for name in runners if name not in failed], round_index):
            with reporting(name, failed):
                runners[name].run(args.runs)
    rows = {name: runner.summary() for name, runner in runners.items() if name not in failed}
    result = asdict(case) | dict(engines=with_ratios(rows), failed=failed)
    if case.bench == "attention":
        result["floor"] = floor(case, found, args.precision)
    return result


class OursOnGpu(Ours):
    """Our benchmark command; the memory that PyTorch keeps for later is given back before."""

    def __init__(self, case: Case, precision: str, args: argparse.Namespace) -> None:
        self.reports = []
        options = dict(device=args.device, bench=case.bench, model=case.model, runs=args.runs)
        if case.bench == "attention":
            options |= dict(bench="operator", operator=options.pop("model"))
            options |= dict(dim=case.dim, num_heads=case.num_heads)
            options |= dict(n_win=case.n_win, topk=case.topk)
        options |= dict(batch_size=case.batch_size, img_size=f"{case.height}x{case.width}")
        options |= dict(precision=precision)
        self.command = [str(args.biformer), "benchmark"]
        for name, value in options.items():
            self.command += [f"--{name.replace('_', '-')}", str(value)]

    def run(self, runs: int) -> None:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        super().run(runs)


def print_table(result: dict[str, Any]) -> None:
    heads = ["engine", "median ms", "p90 ms", "images/s", "error", "peer/ours"]
    print("  " + f"{heads[0]:20}" + "".join(f"{head:>12}" for head in heads[1:]))
    forms = dict(median_ms=".3f", p90_ms=".3f", images_per_second=".1f")
    forms |= dict(relative_error=".1e", ratio=".2f")
    for name, row in result["engines"].items():
        cells = ["-" if row.get(key) is None else format(row[key], forms[key]) for key in forms]
        print(f"  {name:20}" + "".join(f"{cell:>12}" for cell in cells))
    for name, reason in result["failed"].items():
        print(f"  {name:20} failed: {reason}")
    if least := result.get("floor"):
        words = ", ".join(f"{key} {value:.4g}" for key, value in least.items())
        print(f"  floor of the attention core: {words}")
    sys.stdout.flush()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--official", type=Path, required=True, help="checkout of rayleizhu/BiFormer")
    add("--biformer", type=Path, required=True, help="our command, built with --release for a GPU")
    add("--device", default="vulkan", help="of our command: vulkan or cuda")
    add("--torch-device", choices=["cuda", "cpu"], default="cuda", help="cpu to try the script")
    add("--bench", nargs="+", choices=DEFAULT_BATCH, default=list(DEFAULT_BATCH))
    add("--model", nargs="+", choices=MODELS, default=MODELS)
    add("--batch-size", nargs="+", type=positive, help="default: 1 and 32; train 32; attention 8")
    add("--picture", nargs="+", choices=PICTURES, default=list(PICTURES), help="for attention")
    add("--stage", nargs="+", type=int, choices=range(1, 5), default=[1, 2, 3, 4])
    add("--topk", nargs="+", type=positive, default=TOPKS)
    add("--engines", nargs="+", choices=ENGINES, help="default: all but reduce-overhead")
    add("--precision", nargs="+", choices=PRECISIONS, default=PRECISIONS, help="of the peers")
    add("--ours-precision", nargs="+", choices=["f32", "bf16", "f16"], default=["f32"])
    add("--runs", type=positive, default=10, help="timed runs in each round, at least")
    add("--rounds", type=positive, default=3)
    args = parser.parse_args()
    args.engines = args.engines or [engine for engine in ENGINES if engine != "reduce-overhead"]
    args.official, args.biformer = args.official.resolve(), args.biformer.resolve()
    args.torch_device = torch.device(args.torch_device)
    if problem := first_problem(args):
        parser.error(problem)
    return args


def first_problem(args: argparse.Namespace) -> str | None:
    if not (args.official / "models" / "biformer_stl.py").is_file():
        return f"--official {args.official}: not the official checkout"
    if not (args.biformer.is_file() and os.access(args.biformer, os.X_OK)):
        return f"--biformer {args.biformer}: not a program"
    if args.torch_device.type == "cuda" and not torch.cuda.is_available():
        return "--torch-device cuda: torch sees no GPU; to try the script: --torch-device cpu"
    regions = min(PICTURES[picture][2] for picture in args.picture) ** 2
    if max(args.topk) > regions:
        return f"--topk {max(args.topk)}: there are {regions} regions"
    return None


if __name__ == "__main__":
    sys.exit(main())
