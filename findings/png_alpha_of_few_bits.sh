#!/bin/sh
# Guess:   `tf.io.decode_png(png, channels=4)` gives a PNG without transparency the alpha 255 everywhere, so dividing by
#          255 tells what is opaque.
# Seen:    with TensorFlow 2.16.2 that holds for 8 bits a sample only. Of a PNG with 1, 2 or 4 bits (grey, black and
#          white, or a palette) the alpha is 1, 3 or 15: libpng fills it in before the samples are expanded. Such a picture
#          looks almost wholly transparent, and comes out as the background once it is composited.
# Matters: components/transform/image_ops.py asks for alpha only where the file has some (colour types 4 and 6, or a tRNS
#          chunk), and reads all other PNGs with three channels.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow-cpu==2.16.2 pillow==12.3.0 'setuptools<81'
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - <<'PYTHON'
import io
import sys

import numpy as np
import tensorflow as tf
from PIL import Image

expected = {1: [1], 2: [3], 4: [15], 8: [255]}
grey = Image.fromarray((np.arange(64).reshape(8, 8) * 4).astype(np.uint8))
seen = {}
for bits in expected:
    picture = {1: grey.convert("1"), 8: grey}.get(bits) or grey.quantize(2**bits)
    file = io.BytesIO()
    picture.save(file, "PNG", **({"bits": bits} if picture.mode == "P" else {}))
    png = file.getvalue()
    assert png[24] == bits and b"tRNS" not in png
    seen[bits] = np.unique(tf.io.decode_png(png, channels=4)[..., 3]).tolist()
    print(f"TensorFlow {tf.__version__}: opaque PNG of {bits} bits a sample, alpha {seen[bits]}")
sys.exit(seen != expected)
PYTHON
