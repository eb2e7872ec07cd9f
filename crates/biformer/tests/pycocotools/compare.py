"""Compares our scores with those of pycocotools on detections drawn at random, and polygons pixel by pixel.

    pip install pycocotools numpy
    cargo build --release --example coco_eval
    python compare.py target/release/examples/coco_eval [--seeds 5] [--annotations FILE]

Each seed is a set of pictures with things of all sizes, crowds, polygons and runs, equal scores, boxes that miss,
boxes beyond the edge, more than a hundred detections, pictures and categories with nothing. With --annotations the
pictures and the truth are those of a file. The largest difference of the twelve numbers and of each category is
printed; above 1e-9 the exit code is 1.
"""

import argparse
import contextlib
import io
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

LIMIT = 1e-9


def blob(rng, cx, cy, radius):
    """Corners of a ragged outline."""
    angles = np.sort(rng.uniform(0, 2 * math.pi, rng.integers(3, 24)))
    radii = radius * rng.uniform(0.5, 1.0, len(angles))
    points = np.stack([cx + radii * np.cos(angles), cy + radii * np.sin(angles)], 1)
    return np.round(points, 2).ravel().tolist()


def random_truth(rng, pictures=40, categories=6):
    ids = np.sort(rng.choice(np.arange(1, 40), categories + 1, replace=False)).tolist()
    truth = {"images": [], "annotations": [], "categories": [{"id": i, "name": f"c{i}"} for i in ids]}
    for number in range(pictures):
        height, width = (int(side) for side in rng.integers(80, 400, 2))
        image = int(rng.integers(1, 5)) + 10 * number
        truth["images"].append({"id": image, "file_name": f"{image}.jpg", "width": width, "height": height})
        for _ in range(rng.integers(0, 12) if number % 7 else 0):
            radius = float(np.exp(rng.uniform(np.log(3), np.log(150))))
            parts = [blob(rng, rng.uniform(0, width), rng.uniform(0, height), radius) for _ in range(rng.integers(1, 3))]
            rle = masks.merge(masks.frPyObjects(parts, height, width))
            crowd = int(rng.random() < 0.1)
            box = masks.toBbox(rle).tolist()
            if crowd:
                pixels = masks.decode(rle).ravel(order="F")
                edges = np.flatnonzero(np.diff(np.concatenate([[0], pixels, [2]])))
                segmentation = {"size": [height, width], "counts": np.diff(np.concatenate([[0], edges])).tolist()}
            else:
                segmentation = parts
            truth["annotations"].append({
                "id": len(truth["annotations"]) + 1, "image_id": image, "iscrowd": crowd, "bbox": box,
                "category_id": int(rng.choice(ids[:-1])), "area": float(masks.area(rle)) * float(rng.uniform(0.8, 1.2)),
                "segmentation": segmentation,
            })
    return truth


def random_detections(rng, truth):
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    ids = [category["id"] for category in truth["categories"]]
    found = []

    def add(image, category, outline, score):
        height, width = sizes[image]
        rle = masks.frPyObjects([outline], height, width)[0]
        box = masks.toBbox(rle) + rng.normal(0, 0.3, 4) * (rng.random() < 0.5)
        found.append({
            "image_id": image, "category_id": category, "score": score, "bbox": box.tolist(),
            "segmentation": {"size": [height, width], "counts": rle["counts"].decode()},
        })

    for annotation in truth["annotations"]:
        x, y, w, h = annotation["bbox"]
        for _ in range(rng.integers(0, 4)):
            shift = rng.normal(0, 0.08, 4)
            box = [x + shift[0] * w, y + shift[1] * h, w * (1 + shift[2]), h * (1 + shift[3])]
            outline = [box[0], box[1], box[0] + box[2], box[1], box[0] + box[2], box[1] + box[3], box[0], box[1] + box[3]]
            if isinstance(annotation["segmentation"], list) and rng.random() < 0.7:
                outline = (np.array(annotation["segmentation"][0]) + rng.normal(0, 0.05 * min(w, h) + 0.1)).tolist()
            category = annotation["category_id"] if rng.random() < 0.85 else int(rng.choice(ids))
            # Few different scores, so that many are equal.
            add(annotation["image_id"], category, outline, round(float(rng.random()), 2 if rng.random() < 0.7 else 6))
    crowded = truth["images"][3]["id"]
    for _ in range(130):
        height, width = sizes[crowded]
        outline = blob(rng, rng.uniform(0, width), rng.uniform(0, height), rng.uniform(4, 60))
        add(crowded, ids[0], outline, round(float(rng.random()), 2))
    rng.shuffle(found)
    return found


def theirs(truth, found, kind):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        results = json.loads(found.read_text())
        if kind == "segm":  # areas are then those of the masks
            results = [{key: value for key, value in result.items() if key != "bbox"} for result in results]
        evaluation = COCOeval(coco, coco.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    by_category = [p[p > -1].mean() if (p > -1).any() else -1 for p in np.moveaxis(precision, 2, 0)]
    return np.concatenate([evaluation.stats, by_category])


def ours(program, truth, found, kind):
    output = subprocess.run([program, truth, found, kind], check=True, capture_output=True, text=True).stdout
    return np.nan_to_num([float(line.split()[-1]) for line in output.splitlines()], nan=-1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--annotations", type=Path)
    arguments = parser.parse_args()
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        truth, found = Path(folder, "truth.json"), Path(folder, "found.json")
        for seed in range(arguments.seeds):
            rng = np.random.default_rng(seed)
            content = json.loads(arguments.annotations.read_text()) if arguments.annotations else random_truth(rng)
            truth.write_text(json.dumps(content))
            found.write_text(json.dumps(random_detections(rng, content)))
            for kind in ["bbox", "segm"]:
                expected, seen = theirs(truth, found, kind), ours(arguments.program, truth, found, kind)
                difference = float(np.abs(expected - seen).max())
                worst = max(worst, difference)
                print(f"seed {seed} {kind}: AP {seen[0]:.6f}, {len(seen)} numbers, largest difference {difference:.1e}")
    print(f"largest difference {worst:.1e}")
    sys.exit(worst > LIMIT)


if __name__ == "__main__":
    main()
