#!/bin/sh
# Guess:   Pillow's `convert("RGB")` of a 16-bit grey PNG (mode I;16) scales 0..65535 to 0..255, as it does for every other
#          mode with another depth, and as viewers show the file.
# Seen:    with Pillow 12.3.0 it clips: 0..255 stay as they are, and every brighter pixel is 255, without a warning. A
#          photo becomes black and white. TensorFlow takes the upper byte (`tf.io.decode_png`), as viewers do.
# Matters: components/example_gen/photo.py, `to_rgb`, shifts by 8 bits itself; a photo is read by both decoders and
#          compared, so that one of them alone would have been rejected.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==12.3.0 numpy==2.2.6
"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys

import numpy as np
import PIL
from PIL import Image

levels = np.array([[0, 100, 255, 256, 4096, 32768, 65535]], np.uint16)
file = io.BytesIO()
Image.fromarray(levels).save(file, "PNG")
picture = Image.open(io.BytesIO(file.getvalue()))
seen = np.asarray(picture.convert("RGB"))[0, :, 0].tolist()
print(f"Pillow {PIL.__version__}, mode {picture.mode}: {levels[0].tolist()} became {seen}, scaled it would be "
      f"{(levels[0] >> 8).tolist()}")
sys.exit(seen != [0, 100, 255, 255, 255, 255, 255])
PYTHON
