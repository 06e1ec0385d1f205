#!/bin/sh
# Guess:   `load_dataset("imagefolder", data_dir=...)` of bus/, car/ and train/ (vehicles) gives three classes; or it
#          says that `train` is taken for a split.
# Seen:    datasets 5.2.0 takes `train` for the split, drops the photos of all other classes and the labels, and says
#          nothing. One folder is enough: `train_station` and `test_tube` do the same, `tests` does not.
#              datasets 5.2.0: bus, car, tram -> train 9 photos, classes bus, car, tram
#              datasets 5.2.0: bus, car, train -> train 3 photos, classes none
#              datasets 5.2.0: bus, car, train_station -> train 3 photos, classes none
#              datasets 5.2.0: beaker, flask, test_tube -> test 3 photos, classes none
#              datasets 5.2.0: beaker, flask, tests -> train 9 photos, classes beaker, flask, tests
# Source:  datasets/data_files.py: a split's word counts where it stands alone or before one of "-._ 0-9"; the first
#          kind of pattern that matches any file decides for all. folder_based_builder.py drops the label of a single
#          class.
# Matters: components/example_gen/splits_by_name.py reads `train_station` and `test_tube` as classes, and refuses
#          `train` beside `bus` by name. Folders that were tried with `datasets` first may have lost classes before.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 pillow==12.3.0
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from pathlib import Path

import datasets
from PIL import Image

datasets.disable_progress_bars()
expected = {
    ("bus", "car", "tram"): {"train": (9, ["bus", "car", "tram"])},
    ("bus", "car", "train"): {"train": (3, [])},
    ("bus", "car", "train_station"): {"train": (3, [])},
    ("beaker", "flask", "test_tube"): {"test": (3, [])},
    ("beaker", "flask", "tests"): {"train": (9, ["beaker", "flask", "tests"])},
}
seen = {}
for number, classes in enumerate(expected):
    photos = Path(sys.argv[1]) / "photos" / str(number)
    for each in classes:
        (photos / each).mkdir(parents=True)
        for shade in range(3):
            Image.new("RGB", (8, 8), (80 * shade, 0, 0)).save(photos / each / f"{shade}.png")
    splits = datasets.load_dataset("imagefolder", data_dir=str(photos), cache_dir=f"{sys.argv[1]}/cache")
    seen[classes] = {
        split: (len(rows), rows.features["label"].names if "label" in rows.features else [])
        for split, rows in splits.items()
    }
    for split, (count, names) in seen[classes].items():
        print(f"datasets {datasets.__version__}: {', '.join(classes)} -> {split} {count} photos, "
              f"classes {', '.join(names) or 'none'}")
sys.exit(seen != expected)
PYTHON
