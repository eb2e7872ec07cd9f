"""One engine in a process of its own: builds the official model, checks its answer, times it.

Started by `peers.py` with a job in JSON as the only argument. The engine "reference" runs the
official code eagerly, writes its answer into the job's folder, and the ONNX file if one is needed,
and ends. Any other engine answers "ready" once it is warm; then each line on standard input is a
number of runs, answered by their times in milliseconds.
"""

import importlib
import json
import os
import resource
import sys
import time
import types
from pathlib import Path
from typing import Any, Callable, TextIO

import numpy as np

Step = Callable[[], Any]  # one timed run; gives the logits, the attended map, or the loss

PACKAGES = {"onnxruntime": "onnxruntime", "openvino": "openvino"}  # the others are torch
WARM_UP = 3
TOLERANCE = 1e-3  # of the largest value: another order of summation, far from another routing
ATTENTION = dict(dim=64, num_heads=2, n_win=16, topk=4, side_dwconv=5, auto_pad=True)


def main() -> None:
    replies, job = claim_stdout(), json.loads(sys.argv[1])
    folder = Path(job["folder"])
    try:
        if job["engine"] == "reference":
            write_reference(job, folder)
            reply(replies, ready=True)
        else:
            serve(job, folder, replies)
    except Exception as error:  # reported to the parent, which goes on with the other engines
        reply(replies, error=f"{type(error).__name__}: {error}")
        raise


def claim_stdout() -> TextIO:
    """Keeps standard output for replies; whatever a library prints goes to standard error."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies


def reply(replies: TextIO, **fields: Any) -> None:
    print(json.dumps(fields), file=replies, flush=True)


# ---- the two kinds of job -----------------------------------------------------------------------


def write_reference(job: dict, folder: Path) -> None:
    import torch

    module, inputs = official(job)
    if job["bench"] == "train":
        expected = train_step(module, inputs)()
    else:
        np.save(folder / "input.npy", inputs.numpy())
        with torch.no_grad():
            expected = module(inputs)
            if job["onnx"]:
                export_onnx(module, inputs, folder / "model.onnx")
    np.save(folder / "expected.npy", expected.numpy())


def export_onnx(module: Any, inputs: Any, file: Path) -> None:
    import torch

    torch.onnx.export(module, (inputs,), str(file), dynamo=True, input_names=["input"])


def serve(job: dict, folder: Path, replies: TextIO) -> None:
    started = time.perf_counter()
    importlib.import_module(PACKAGES.get(job["engine"], "torch"))
    import_rss_mb = peak_rss_mb()
    step, version = build(job, folder)
    error = relative_error(np.asarray(step()), np.load(folder / "expected.npy"))
    if not error <= TOLERANCE:
        raise ValueError(f"the answer is off by {error:.1e} of its largest value")
    for _ in range(WARM_UP):
        step()
    reply(
        replies,
        version=version,
        relative_error=error,
        setup_s=time.perf_counter() - started,
        import_rss_mb=import_rss_mb,
        setup_peak_rss_mb=peak_rss_mb(),
    )
    forget_peak_rss()
    for line in sys.stdin:
        times, cpu_times = zip(*(milliseconds(step) for _ in range(int(line))), strict=True)
        reply(replies, times=times, cpu_times=cpu_times, run_peak_rss_mb=peak_rss_mb())


def milliseconds(step: Step) -> tuple[float, float]:
    """Time on the clock, and time of all threads on a core."""
    start, cpu_start = time.perf_counter(), time.process_time()
    step()
    return (time.perf_counter() - start) * 1e3, (time.process_time() - cpu_start) * 1e3


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def peak_rss_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def forget_peak_rss() -> None:
    """Starts the peak anew from what is held now, so that compiling is not counted as running."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass  # the peak then stays that of the whole process


# ---- engines ------------------------------------------------------------------------------------


def build(job: dict, folder: Path) -> tuple[Step, str]:
    """The step of one engine, and the engine's version."""
    builders = {"onnxruntime": onnxruntime_step, "openvino": openvino_step}
    return builders.get(job["engine"], torch_step)(job, folder)


def torch_step(job: dict, _folder: Path) -> tuple[Step, str]:
    import torch

    torch.set_num_threads(job["threads"])
    torch.set_num_interop_threads(1)
    module, inputs = official(job)
    if job["engine"] == "compile":
        module = torch.compile(module, dynamic=False)
    if job["engine"] == "max-autotune":  # on CPUs the templates of GEMM want constant weights
        import torch._inductor.config as inductor

        inductor.freezing = True
        module = torch.compile(module, dynamic=False, mode="max-autotune")
    if job["bench"] == "train":
        return train_step(module, inputs), torch.__version__

    @torch.inference_mode()
    def step() -> Any:
        return module(inputs)

    return step, torch.__version__


def onnxruntime_step(job: dict, folder: Path) -> tuple[Step, str]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    options.inter_op_num_threads = 1
    file = str(folder / "model.onnx")
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    feed = {"input": np.load(folder / "input.npy")}
    return lambda: session.run(None, feed)[0], onnxruntime.__version__


def openvino_step(job: dict, folder: Path) -> tuple[Step, str]:
    import openvino

    options = {
        "INFERENCE_NUM_THREADS": job["threads"],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 where the CPU has it
    }
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(folder / "model.onnx"), "CPU", options)
    request = compiled.create_infer_request()
    feed = {0: np.load(folder / "input.npy")}

    def step() -> Any:
        return request.infer(feed, share_inputs=True, share_outputs=True)[0]

    return step, openvino.__version__


# ---- the official code --------------------------------------------------------------------------


def official(job: dict) -> tuple[Any, Any]:
    """The official module with random weights, and its input; the same in every process."""
    import torch

    stand_in_for_unused_packages()
    sys.path.insert(0, job["official"])
    torch.manual_seed(0)
    if job["bench"] == "attention":
        from ops.bra_legacy import BiLevelRoutingAttention

        module = BiLevelRoutingAttention(**ATTENTION).eval()
        return module, torch.randn(job["batch_size"], job["height"], job["width"], ATTENTION["dim"])
    from models import biformer

    module = getattr(biformer, job["model"])(pretrained=False).train(job["bench"] == "train")
    return module, torch.randn(job["batch_size"], 3, job["height"], job["width"])


def train_step(module: Any, images: Any) -> Step:
    """Forward, cross-entropy on random labels, backward, AdamW."""
    import torch

    labels = torch.randint(1000, (len(images),))
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4, weight_decay=0.05, fused=True)

    def step() -> Any:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(images), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def stand_in_for_unused_packages() -> None:
    """The few names that the official files import from timm and fairscale, so neither is needed.

    The published variants use none of their code but the initialisation, which torch has too.
    """
    import torch

    names: dict[str, dict[str, Any]] = {
        "fairscale": {},
        "fairscale.nn": {},
        "fairscale.nn.checkpoint": dict(checkpoint_wrapper=None),
        "timm": {},
        "timm.models": dict(register_model=lambda variant: variant),
        "timm.models.layers": dict(
            DropPath=None,
            LayerNorm2d=None,
            to_2tuple=None,
            trunc_normal_=torch.nn.init.trunc_normal_,
        ),
        "timm.models.vision_transformer": dict(_cfg=dict),
    }
    for name, members in names.items():
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__dict__.update(members)


if __name__ == "__main__":
    main()
