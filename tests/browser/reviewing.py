"""A review of six photos and four collected ones, for the browser: `python -m tests.browser.reviewing FOLDER`.

Prints the address. Everything lies in the folder, the file of corrections too.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from deploy.collection import Collection, CollectionLimits
from deploy.review.application import ReviewApplication
from deploy.review.start import make_review
from deploy.root import CONFIG_FILE, SUMMARY_FILE, Root
from deploy.serve.server import address, bind, listen, run
from pipeline.config import dump_config, load_config
from schemas.findings import FINDINGS_JSON, Finding, Findings, findings_json

LABELS = ["<b>cat</b>", "dog", "hen"]
KINDS = ["suspected_label", "low_confidence", "far_photo", "mistake"]


def jpeg(number: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(number).normal(40 * number % 256, 20, (60, 80, 3))
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def write_run(folder: Path) -> Root:
    root, photos = Root(folder / "root"), folder / "photos" / "span-1"
    root.prepare("image_folder")
    listed = []
    for i in range(5):
        path = f"cat/<img src=x onerror=alert({i})>.jpg"
        (photos / "cat").mkdir(parents=True, exist_ok=True)
        (photos / path).write_bytes(jpeg(i))
        found = {"kind": KINDS[i % 4], "path": path, "content_hash": hashlib.sha256(jpeg(i)).hexdigest(), "span": "1"}
        proposal = "dog" if i % 4 in (0, 3) else ""
        detail = f"{path} is worth a look."
        listed.append(Finding(**found, dataset="image_folder", label=LABELS[0], proposal=proposal, detail=detail))
    gone = {"kind": "contradictory_label", "content_hash": "b" * 64}
    listed += [Finding(**gone, path=f"{label}/both.jpg", label=label) for label in LABELS[:2]]
    run_folder = root.reports / "a run"
    run_folder.mkdir()
    config = load_config("image_folder", ["data.window=all"], [f"{folder}/photos/span-{{SPAN}}"])
    (run_folder / CONFIG_FILE).write_text(dump_config(config))
    summary = {"schema_version": 1, "run_id": "a run", "status": "pushed", "reason": "", "production": {}}
    (run_folder / SUMMARY_FILE).write_text(json.dumps(summary))
    (run_folder / FINDINGS_JSON).write_bytes(findings_json(Findings(run_id="a run", labels=LABELS, findings=listed)))
    return root


def collect(folder: Path) -> Collection:
    made = Collection(folder / "unsure", CollectionLimits())
    for i in range(4):
        answers = dict(zip(LABELS, (0.4, 0.35, 0.25), strict=True))
        made.offer(jpeg(10 + i), LABELS[0], answers, True, name=f"collected {i}.jpg")
    return made


if __name__ == "__main__":
    place = Path(sys.argv[1])
    reviewed = make_review(write_run(place), "latest", who="ann", collection=collect(place))
    with bind("127.0.0.1", 0) as listener:
        listen(listener)
        print(address(listener), flush=True)
        run(ReviewApplication(reviewed), listener)
