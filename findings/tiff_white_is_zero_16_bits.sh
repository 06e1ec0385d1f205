#!/bin/sh
# Guess:   a TIFF whose photometric interpretation is WhiteIsZero (scans, X-rays) looks the same with 8 and with 16
#          bits: Pillow inverts what is stored.
# Seen:    Pillow 13.0.0 inverts 1, 2, 4 and 8 bits. With 16 bits it gives the stored numbers, in mode I;16 like any
#          other grey picture: a negative. The tag is the only sign.
#              Pillow 13.0.0: 8 bits, WhiteIsZero, stored 0 128 255: L 255 127 0
#              Pillow 13.0.0: 16 bits, WhiteIsZero, stored 0 32896 65535: I;16 0 32896 65535
# Source:  OPEN_INFO in PIL/TiffImagePlugin.py: the raw modes of photometric 0 end in "I" (inverted), but that of 16
#          bits.
# Matters: components/example_gen/conversion.py turns TIFFs into PNGs by what Pillow gives, and no second decoder sees
#          the TIFF. So it looks at the tag, and inverts 16 bits itself.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0 tifffile==2026.3.3 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys

import numpy as np
import PIL
import tifffile
from PIL import Image

expected = {8: ("L", [255, 127, 0]), 16: ("I;16", [0, 32896, 65535])}
seen = {}
for bits in expected:
    stored = np.array([[0, 128, 255]]).repeat(16, axis=0) * (257 if bits == 16 else 1)
    file = io.BytesIO()
    tifffile.imwrite(file, stored.astype(f"uint{bits}"), photometric="miniswhite")
    file.seek(0)
    with Image.open(file) as picture:
        seen[bits] = (picture.mode, np.asarray(picture)[0].tolist())
    print(f"Pillow {PIL.__version__}: {bits} bits, WhiteIsZero, stored {' '.join(map(str, stored[0]))}: "
          f"{seen[bits][0]} {' '.join(map(str, seen[bits][1]))}")
sys.exit(seen != expected)
PYTHON
