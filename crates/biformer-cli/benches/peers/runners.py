"""What takes a turn: a peer in its own process, or our benchmark command."""

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FACTS = ["version", "relative_error", "setup_s", "import_rss_mb"]  # told by an engine once warm
MEDIANS = ["median_ms", "p90_ms", "images_per_second"]  # told by our command each turn


@dataclass(frozen=True)
class Case:
    bench: str
    model: str
    batch_size: int
    height: int
    width: int
    threads: int

    def __str__(self) -> str:
        size = f"{self.height}x{self.width}"
        return f"{self.bench} {self.model}, batch {self.batch_size}, {size}, {self.threads} threads"


class EngineError(Exception):
    """An engine, or our command, that could not be timed."""


def pinned(threads: int) -> list[str]:
    cores = sorted(os.sched_getaffinity(0))[-threads:]
    return ["taskset", "-c", ",".join(map(str, cores))]


class Peer:
    """A warm engine in its own process."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job, self.times, self.cpu_times, self.run_peak = job, [], [], 0.0
        self.log = open(Path(job["folder"]) / f"{job['engine']}.log", "w+")
        threads = str(job["threads"])
        variables = dict(
            OMP_NUM_THREADS=threads,
            MKL_NUM_THREADS=threads,
            CUDA_VISIBLE_DEVICES="",
            TORCHINDUCTOR_CACHE_DIR=str(Path(job["folder"]) / job["engine"]),  # tuned anew
        )
        self.process = subprocess.Popen(
            pinned(job["threads"])
            + [sys.executable, str(Path(__file__).with_name("engines.py")), json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=os.environ | variables,
        )
        try:
            self.facts = self.answer()
        except BaseException:
            self.close()
            raise

    def answer(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            raise EngineError(f"ended early: {self.log.read()[-300:].strip()}")
        answer = json.loads(line)
        if "error" in answer:
            raise EngineError(answer["error"])
        return answer

    def run(self, runs: int) -> None:
        if self.process.poll() is not None:
            raise EngineError("ended early")
        self.process.stdin.write(f"{runs}\n")
        self.process.stdin.flush()
        answer = self.answer()
        self.times += answer["times"]
        self.cpu_times += answer["cpu_times"]
        self.run_peak = answer["run_peak_rss_mb"]

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.log.close()

    def summary(self) -> dict[str, Any]:
        median = statistics.median(self.times)
        facts = {name: self.facts[name] for name in FACTS}
        return dict(
            median_ms=median,
            min_ms=min(self.times),
            cpu_ms=statistics.median(self.cpu_times),
            p90_ms=statistics.quantiles(self.times, n=10)[-1] if len(self.times) > 1 else median,
            images_per_second=self.job["batch_size"] * 1e3 / median,
            peak_rss_mb=max(self.run_peak, self.facts["setup_peak_rss_mb"]),
            run_peak_rss_mb=self.run_peak,
            timed_runs=len(self.times),
            **facts,
        )


class Ours:
    """Our benchmark command; each run is a new process with its own warm-up and number of runs."""

    def __init__(self, case: Case, binary: Path) -> None:
        self.reports: list[dict[str, Any]] = []
        square = f"{case.height}" if case.height == case.width else f"{case.height}x{case.width}"
        what = dict(model=case.model, **{"batch-size": case.batch_size})
        bench = case.bench
        if bench == "attention":
            bench, what = "operator", dict(operator=case.model)
        options = dict(bench=bench, **what, **{"img-size": square, "threads": case.threads})
        flags = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self.command = pinned(case.threads) + [str(binary), "benchmark", *flags]

    def run(self, _runs: int) -> None:
        done = subprocess.run(self.command, capture_output=True, text=True)
        if done.returncode:
            reason = done.stderr.strip()[-300:] or f"ended with {done.returncode}"
            raise EngineError(f"{' '.join(self.command)}: {reason}")
        try:
            report = json.loads(done.stdout)
            report |= {name: float(report[name]) for name in [*MEDIANS, "peak_rss_mb"]}
        except (ValueError, KeyError, TypeError) as error:
            raise EngineError(f"{' '.join(self.command)}: JSON expected: {error}") from error
        self.reports.append(report)

    def close(self) -> None:
        pass

    def summary(self) -> dict[str, Any]:
        if not self.reports:
            return {}
        medians = {name: statistics.median(r[name] for r in self.reports) for name in MEDIANS}
        peak = max(report["peak_rss_mb"] for report in self.reports)
        return self.reports[-1] | medians | dict(peak_rss_mb=peak)
