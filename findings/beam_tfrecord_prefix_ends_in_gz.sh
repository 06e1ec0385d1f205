#!/bin/sh
# Guess:   what Beam's `WriteToTFRecord` wrote, `ReadFromTFRecord` reads, if both find out the compression by
#          themselves (`CompressionTypes.AUTO`, the default).
# Seen:    with Beam 2.77.0 the writer looks at the name of its temporary file, the reader at that of the finished
#          one, and the shard number comes between. A prefix that ends in `.gz` gives gzip files whose names do not:
#          Beam cannot read them back, nor can TensorFlow unless it is told. A suffix of `.zst` gives what Beam reads,
#          and TensorFlow, which knows GZIP and ZLIB, does not.
#              Beam 2.77.0: prefix photos, suffix .gz: photos-00000-of-00001.gz, gzip; AUTO: reads 1 record
#              Beam 2.77.0: prefix photos.gz, suffix none: photos.gz-00000-of-00001, gzip; AUTO: not a valid TFRecord
#              Beam 2.77.0: prefix photos, suffix .zst: photos-00000-of-00001.zst, zstd; AUTO: reads 1 record
# Source:  `open_writer` and `_get_final_name` in apache_beam/io/filebasedsink.py; `detect_compression_type` in
#          apache_beam/io/filesystem.py.
# Matters: components/beam_records.py writes with `file_name_suffix=".gz"`; components/records.py reads by the same
#          ending.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet apache-beam==2.77.0 google-crc32c==1.9.0
"$folder/venv/bin/python" - "$folder" 2>/dev/null <<'PYTHON'
import sys
from pathlib import Path

import apache_beam as beam

KINDS = {b"\x1f\x8b": "gzip", b"\x28\xb5": "zstd"}
expected = {
    ("photos", ".gz"): ("photos-00000-of-00001.gz", "gzip", "reads 1 record"),
    ("photos.gz", ""): ("photos.gz-00000-of-00001", "gzip", "not a valid TFRecord"),
    ("photos", ".zst"): ("photos-00000-of-00001.zst", "zstd", "reads 1 record"),
}
seen = {}
for number, (prefix, suffix) in enumerate(expected):
    folder = Path(sys.argv[1]) / str(number)
    with beam.Pipeline("FnApiRunner") as pipeline:
        records = pipeline | beam.Create([b"a photo"])
        _ = records | beam.io.WriteToTFRecord(str(folder / prefix), file_name_suffix=suffix)
    [file] = folder.iterdir()
    try:
        with beam.Pipeline("FnApiRunner") as pipeline:
            read = pipeline | beam.io.ReadFromTFRecord(str(file))
            _ = read | beam.Map(lambda record: (folder / "read").write_bytes(record))
        said = "reads 1 record" if (folder / "read").read_bytes() == b"a photo" else "reads something else"
    except ValueError as error:
        said = "not a valid TFRecord" if "Not a valid TFRecord" in str(error) else str(error)
    seen[prefix, suffix] = (file.name, KINDS.get(file.read_bytes()[:2], "plain"), said)
    name, kind, said = seen[prefix, suffix]
    print(f"Beam {beam.__version__}: prefix {prefix}, suffix {suffix or 'none'}: {name}, {kind}; AUTO: {said}")
sys.exit(seen != expected)
PYTHON
