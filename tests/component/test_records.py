"""Records of examples are read without TensorFlow as TensorFlow reads them."""

import gzip
from pathlib import Path

import pytest
import tensorflow as tf

from components.records import iterate_records, read_examples, read_records

RECORDS = [b"", b"a", b"two", bytes(range(256)) * 500]


@pytest.fixture
def packed(tmp_path):
    """A gzipped file of records, as TensorFlow writes it."""
    path = str(tmp_path / "data.gz")
    with tf.io.TFRecordWriter(path, "GZIP") as writer:
        for record in RECORDS:
            writer.write(record)
    return path


def test_gzipped_and_plain_files_give_the_records_that_tensorflow_reads(packed, tmp_path):
    plain = str(tmp_path / "data")
    with tf.io.TFRecordWriter(plain) as writer:
        writer.write(b"plain")
    assert list(iterate_records([packed, plain, packed])) == [*RECORDS, b"plain", *RECORDS]
    assert list(read_records([packed]).as_numpy_iterator()) == RECORDS


def test_examples_are_those_of_tensorflow(write_records, tmp_path):
    example = tf.train.Example()
    example.features.feature["image"].bytes_list.value.append(b"photo")
    write_records(tmp_path / "Split-test", [example])
    [file] = map(str, (tmp_path / "Split-test").iterdir())
    assert list(read_examples([file])) == [example]


@pytest.mark.parametrize("cut", [2, 12, 14, 16])
def test_a_file_that_ends_within_a_record_is_an_error(packed, tmp_path, cut):
    content = gzip.decompress(Path(packed).read_bytes())
    path = tmp_path / "short.gz"
    path.write_bytes(gzip.compress(content[:-cut]))
    with pytest.raises(EOFError, match=r"short\.gz ends within a record"):
        list(iterate_records([str(path)]))


def test_a_damaged_file_is_an_error(packed, tmp_path):
    content = bytearray(Path(packed).read_bytes())
    content[-8] ^= 1  # of gzip's checksum
    path = tmp_path / "damaged.gz"
    path.write_bytes(content)
    with pytest.raises(OSError, match="CRC"):
        list(iterate_records([str(path)]))
