"""The peers on a GPU: PyTorch's models and modules, how they are run, and what the GPU could do.

Used by `gpu.py`. A peer is an engine, which says how a module runs, and a precision:
`f32` is float32 with TF32 off, as ours computes; `tf32` lets products of float32 round to TF32;
`bf16` and `fp16` are torch's autocast, in training with a scaled loss for `fp16`.
"""

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines import TOLERANCE, WARM_UP, Step, stand_in_for_unused_packages
from gpu_attention import RoutedAttention, flex_core, gather_and_sdpa
from runners import EngineError

IMG_SIZE, CLASSES, LCE_KERNEL = 224, 1000, 5
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = ["f32", "tf32", *HALVES]
MODEL_ENGINES = ["eager", "compile", "reduce-overhead"]  # the last is `compile` with CUDA graphs
OPERATOR_ENGINES = ["sdpa", "sdpa-compile", "flex", "flex-compile"]  # with --bench attention alone
SWIN = "swin_tiny_patch4_window7_224"  # timm's name of our swin_tiny
MIN_SECONDS = 0.25  # of a turn: a GPU needs a while to reach its clock; ours runs for a second


@dataclass(frozen=True)
class Case:
    """A model, or the operator on the map of one stage."""

    bench: str
    model: str
    batch_size: int
    height: int = IMG_SIZE
    width: int = IMG_SIZE
    dim: int | None = None
    num_heads: int | None = None
    n_win: int | None = None
    topk: int | None = None

    def __str__(self) -> str:
        what = f"{self.bench} {self.model}, batch {self.batch_size}, {self.height}x{self.width}"
        if self.dim is None:
            return what
        return f"{what}x{self.dim}, {self.num_heads} heads, S = {self.n_win}, k = {self.topk}"


@dataclass(frozen=True)
class Source:
    """Where the official code is, and where it runs."""

    official: Path
    device: torch.device


class Peer:
    """A module on the device, and how far its answer is from the expected one."""

    def __init__(
        self, case: Case, source: Source, engine: str, precision: str, expected: Tensor | None
    ) -> None:
        self.case, self.device, self.precision, self.times = case, source.device, precision, []
        with told_as_engine_error():
            set_tf32(precision != "f32")
            self.step = build(case, source, engine, precision)
            self.answer = self.step().float().clone()  # CUDA graphs write over their output
            self.error = row_error(self.answer, self.answer if expected is None else expected)
            if not math.isfinite(self.error) or (precision == "f32" and self.error > TOLERANCE):
                raise ValueError(f"the answer is off by {self.error:.1e} of its largest value")

    def run(self, runs: int) -> None:
        """At least so many runs, until the time is full; each ends when the device has ended."""
        with told_as_engine_error():
            set_tf32(self.precision != "f32")
            for _ in range(WARM_UP):
                self.step()
            started, times = time.perf_counter(), []
            while len(times) < runs or time.perf_counter() - started < MIN_SECONDS:
                times.append(milliseconds(self.step, self.device))
            self.times += times

    def summary(self) -> dict[str, Any]:
        times = torch.tensor(self.times, dtype=torch.float64)
        median, p90 = (times.quantile(q).item() for q in (0.5, 0.9))
        return dict(
            median_ms=median,
            p90_ms=p90,
            min_ms=min(self.times),
            images_per_second=self.case.batch_size * 1e3 / median,
            runs=len(self.times),
            relative_error=self.error,
        )

    def close(self) -> None:
        self.step = None


@contextmanager
def told_as_engine_error() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noted under the engine's name; the others go on
        message = " ".join(str(error).split())
        raise EngineError(f"{type(error).__name__}: {message[:300]}") from error


def set_tf32(allowed: bool) -> None:
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed


def milliseconds(step: Step, device: torch.device) -> float:
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    step()
    wait()
    return (time.perf_counter() - start) * 1e3


def row_error(got: Tensor, expected: Tensor) -> float:
    """Error of 95 in 100 images or tokens, over the largest value.

    Where two regions score alike, rounding decides which one is routed to; that changes all tokens
    of a region, in few regions.
    """
    errors = (got - expected).abs() / expected.abs().max()
    rows = errors.reshape(-1, errors.shape[-1]).amax(-1) if errors.dim() else errors.reshape(1)
    return rows.quantile(0.95).item()


# ---- engines ------------------------------------------------------------------------------------


def build(case: Case, source: Source, engine: str, precision: str) -> Step:
    """One run of the module; weights and input are the same in each engine."""
    torch.manual_seed(0)
    attention = case.bench == "attention"
    module = (attention_module if attention else image_model)(case, source.official, engine)
    module.to(source.device).train(case.bench == "train")
    shape = [case.height, case.width, case.dim] if attention else [3, case.height, case.width]
    inputs = torch.randn(case.batch_size, *shape).to(source.device)
    if engine == "reduce-overhead":
        module = torch.compile(module, dynamic=False, mode=engine)
    elif engine.endswith("compile"):
        module = torch.compile(module, dynamic=False)
    if case.bench == "train":
        return train_step(module, inputs, precision)

    @torch.inference_mode()
    def step() -> Tensor:
        with autocast(precision, source.device):
            return module(inputs)

    return step


def train_step(module: nn.Module, images: Tensor, precision: str) -> Step:
    """Forward, cross-entropy, backward, AdamW."""
    labels = torch.arange(len(images), device=images.device) % CLASSES
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-6, weight_decay=0.05, fused=True)
    scaler = torch.amp.GradScaler(images.device.type, enabled=precision == "fp16")

    def step() -> Tensor:
        optimizer.zero_grad()
        with autocast(precision, images.device):
            loss = F.cross_entropy(module(images), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss.detach()

    return step


def autocast(precision: str, device: torch.device) -> torch.autocast:
    half = HALVES.get(precision)
    return torch.autocast(device.type, dtype=half, enabled=half is not None)


def image_model(case: Case, official: Path, _engine: str) -> nn.Module:
    if case.model == "swin_tiny":
        import timm

        return timm.create_model(SWIN, drop_path_rate=0.0)
    file = "biformer_stl" if case.model == "biformer_stl" else "biformer"
    return getattr(official_code(official, f"models.{file}"), case.model)(pretrained=False)


def official_code(checkout: Path, module: str) -> Any:
    """A module of the checkout. The stand-ins are for it alone: afterwards timm is as it was."""
    timm = {name: sys.modules.pop(name) for name in timm_modules()}
    stand_in_for_unused_packages()
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    try:
        return __import__(module, fromlist=["*"])
    finally:
        for name in timm_modules():
            del sys.modules[name]
        sys.modules.update(timm)


def timm_modules() -> list[str]:
    return [name for name in sys.modules if name.split(".")[0] == "timm"]


# ---- the operator -------------------------------------------------------------------------------


def attention_module(case: Case, official: Path, engine: str) -> nn.Module:
    """Projection, routing, attention, LCE and output, of the official code or with another core."""
    code = official_code(official, "ops.bra_legacy")
    whole = code.BiLevelRoutingAttention(
        case.dim, case.num_heads, case.n_win, topk=case.topk, side_dwconv=LCE_KERNEL, auto_pad=True
    )
    if engine in MODEL_ENGINES:
        return whole
    if engine.startswith("sdpa"):
        return RoutedAttention(whole, gather_and_sdpa)
    return RoutedAttention(whole, flex_core(compiled_alone=engine == "flex"))


# ---- what the GPU could do ----------------------------------------------------------------------


def roofs(precisions: list[str], device: torch.device) -> dict[str, float]:
    """GB/s of a big copy, and TFLOP/s of a big product in each precision: the best of ten."""
    copied, side = (2**28, 8192) if device.type == "cuda" else (2**24, 512)

    def best(step: Step) -> float:
        return min(milliseconds(step, device) for _ in range(WARM_UP + 10))

    source = torch.ones(copied, device=device)  # far larger than any cache
    target = torch.empty_like(source)
    found = {"gbytes_per_second": 2 * source.nbytes / best(lambda: target.copy_(source)) / 1e6}
    for precision in precisions:
        set_tf32(precision != "f32")
        matrix = torch.randn(side, side, device=device).to(HALVES.get(precision, torch.float32))
        product = best(partial(torch.matmul, matrix, matrix))
        found[f"tflops_{precision}"] = 2 * side**3 / product / 1e9
    return found


def floor(case: Case, found: dict[str, float], precisions: list[str]) -> dict[str, float]:
    """Of the attention core: arithmetic, traffic (Q, K, V and output once), and the least time."""
    height, width = (side + -side % case.n_win for side in (case.height, case.width))
    tokens = case.batch_size * height * width
    keys = case.topk * height * width // case.n_win**2
    gflop = 2 * 2 * tokens * keys * case.dim / 1e9
    mbytes = {"f32": 4 * tokens * case.dim * 4 / 1e6, "half": 4 * tokens * case.dim * 2 / 1e6}
    least = dict(gflop=gflop, **{f"mbytes_{name}": value for name, value in mbytes.items()})
    for precision in precisions:
        traffic = mbytes["half" if precision in HALVES else "f32"] / found["gbytes_per_second"]
        least[f"ms_{precision}"] = max(gflop / found[f"tflops_{precision}"], traffic)
    return least
