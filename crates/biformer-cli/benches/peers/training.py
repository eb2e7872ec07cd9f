"""Trains BiFormer-nano from nothing with the official code and with ours, and compares.

Both see the same pictures with the recipe that is our default: random resized crop, flip, label
smoothing, AdamW, cosine with warm-up. Seeds have the same numbers on both sides, but not the same
draws, so that accuracies are compared by their means and spreads. Runs take turns, so that images
per second meet the same machine.
"""

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import torch
from PIL import Image

from engines import stand_in_for_unused_packages

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
SCALE, RATIO, FLIP = (0.35, 1.0), (3 / 4, 4 / 3), 0.5
SMOOTHING, DECAY, LR, MIN_LR, WARMUP_LR, WARMUP_EPOCHS = 0.1, 0.05, 2e-3, 1e-5, 1e-5, 1.0
NANO = dict(  # as BiFormerConfig::nano
    depth=[1, 1, 3, 1], embed_dim=[32, 64, 128, 256], qk_dims=[32, 64, 128, 256], head_dim=32,
    n_win=4, topks=[1, 4, 8, -2], mlp_ratios=[3, 3, 3, 3], side_dwconv=5, before_attn_dwconv=3,
    kv_downsample_mode="identity", kv_per_wins=[-1, -1, -1, -1], layer_scale_init_value=-1,
)  # fmt: skip


def main() -> int:
    args = arguments()
    torch.set_num_threads(args.threads)
    data = {split: Pictures(args.data / split) for split in ("train", "val")}
    runs: dict[str, list[dict[str, float]]] = {"official": [], "ours": []}
    for seed in args.seeds:
        for side, train in (("official", train_official), ("ours", train_ours)):
            result = train(args, data, seed)
            runs[side].append(result)
            print(f"{side:<9} seed {seed}  " + row(result), file=sys.stderr, flush=True)
    for side, results in runs.items():
        print(f"{side:<9} {summary(results, 'top1'):>17}  {summary(results, 'images_per_second')}")
    print(json.dumps(vars(args) | runs, default=str))
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--official", type=Path, required=True, help="checkout of the official code")
    parser.add_argument("--biformer", type=Path, required=True, help="our command")
    parser.add_argument("--data", type=Path, required=True, help="train/CLASS/*.jpg, val/CLASS/*.jpg")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--img-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


def row(result: dict[str, float]) -> str:
    return f"top1 {result['top1']:.4f}  {result['images_per_second']:.0f} images/s"


def summary(results: list[dict[str, float]], key: str) -> str:
    values = [result[key] for result in results]
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    digits = 4 if key == "top1" else 1
    return f"{key} {statistics.mean(values):.{digits}f} ± {spread:.{digits}f}"


# ---- ours ---------------------------------------------------------------------------------------


def train_ours(args: argparse.Namespace, data: dict[str, Any], seed: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="training-") as folder:
        flags = dict(data=args.data, model="biformer_nano", epochs=args.epochs, seed=seed)
        flags |= {"img-size": args.img_size, "batch-size": args.batch_size, "output": f"{folder}/run"}
        words = [str(word) for name, value in flags.items() for word in (f"--{name}", value)]
        done = subprocess.run(
            [args.biformer, "train", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        if done.returncode:
            sys.exit(f"{args.biformer} train: {done.stderr.strip()[-300:]}")
        metrics = Path(folder, "run/metrics.jsonl").read_text().splitlines()
        speeds = [json.loads(line)["images_per_second"] for line in metrics]
        top1 = json.loads(done.stdout.splitlines()[-1])["val_top1"]
        return dict(top1=top1, images_per_second=statistics.median(speeds))


# ---- the official model -------------------------------------------------------------------------


def train_official(args: argparse.Namespace, data: dict[str, Any], seed: int) -> dict[str, float]:
    torch.manual_seed(seed)
    draws = random.Random(seed)
    model = official_nano(args.official, len(data["train"].classes))
    optimizer = torch.optim.AdamW(parameter_groups(model), lr=LR, weight_decay=DECAY, fused=True)
    train, size = data["train"], args.img_size
    steps = len(train.labels) // args.batch_size
    speeds = []
    for epoch in range(args.epochs):
        model.train()
        start = time.perf_counter()
        order = draws.sample(range(len(train.labels)), len(train.labels))
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = rate(epoch + step / steps, args.epochs)
            indices = order[step * args.batch_size : (step + 1) * args.batch_size]
            images = torch.stack([augment(train.images[i], size, draws) for i in indices])
            labels = torch.tensor([train.labels[i] for i in indices])
            loss = torch.nn.functional.cross_entropy(model(images), labels, label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        speeds.append(steps * args.batch_size / (time.perf_counter() - start))
    return dict(top1=accuracy(model, data["val"], args), images_per_second=statistics.median(speeds))


def official_nano(checkout: Path, classes: int) -> torch.nn.Module:
    stand_in_for_unused_packages()
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))
    from models.biformer import BiFormer

    return BiFormer(num_classes=classes, **NANO)


def parameter_groups(model: torch.nn.Module) -> list[dict[str, Any]]:
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    others = [p for p in model.parameters() if p.ndim > 1]
    return [dict(params=others), dict(params=vectors, weight_decay=0.0)]


def rate(time: float, epochs: int) -> float:
    if time < WARMUP_EPOCHS:
        return WARMUP_LR + time * (LR - WARMUP_LR) / WARMUP_EPOCHS
    return MIN_LR + 0.5 * (LR - MIN_LR) * (1 + math.cos(math.pi * time / epochs))


@torch.inference_mode()
def accuracy(model: torch.nn.Module, pictures: "Pictures", args: argparse.Namespace) -> float:
    model.eval()
    hits = 0
    for first in range(0, len(pictures.labels), args.batch_size):
        part = slice(first, first + args.batch_size)
        images = torch.stack([centre(image, args.img_size) for image in pictures.images[part]])
        hits += (model(images).argmax(1) == torch.tensor(pictures.labels[part])).sum().item()
    return hits / len(pictures.labels)


# ---- pictures -----------------------------------------------------------------------------------


class Pictures:
    """An ImageFolder, decoded into memory, which spares the official side the decoding."""

    def __init__(self, folder: Path) -> None:
        self.classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        files = [(file, label) for label, name in enumerate(self.classes) for file in listed(folder / name)]
        self.images = [Image.open(file).convert("RGB") for file, _ in files]
        self.labels = [label for _, label in files]


def listed(folder: Path) -> Iterator[Path]:
    return iter(sorted(folder.iterdir()))


def augment(image: Image.Image, size: int, draws: random.Random) -> torch.Tensor:
    """torchvision's RandomResizedCrop and RandomHorizontalFlip."""
    piece = image.resize((size, size), Image.Resampling.BICUBIC, box=random_crop(image, draws))
    if draws.random() < FLIP:
        piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return normalized(piece)


def random_crop(image: Image.Image, draws: random.Random) -> tuple[int, int, int, int]:
    width, height = image.size
    for _ in range(10):
        area = width * height * draws.uniform(*SCALE)
        ratio = math.exp(draws.uniform(*map(math.log, RATIO)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = draws.randint(0, width - w), draws.randint(0, height - h)
            return left, top, left + w, top + h
    return 0, 0, width, height


def centre(image: Image.Image, size: int) -> torch.Tensor:
    short = min(image.size)
    width, height = (max(size, side * size // short) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return normalized(image.crop((left, top, left + size, top + size)))


def normalized(image: Image.Image) -> torch.Tensor:
    values = (np.asarray(image, dtype=np.float32) / 255 - MEAN) / STD
    return torch.from_numpy(values.astype(np.float32).transpose(2, 0, 1))


if __name__ == "__main__":
    sys.exit(main())
