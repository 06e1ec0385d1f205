"""Which errors of reading are of the file itself, and which of the disk or the network."""

from __future__ import annotations

import errno

import tensorflow as tf
from tfx.dsl.io import fileio

# What opening and reading a file raises, here or at an address.
READ_ERRORS = (OSError, tf.errors.OpError, fileio.NotFoundError)
_OF_THE_FILE = (
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
)


def is_of_the_file(error: Exception) -> bool:
    """Whether reading failed because of the file itself, and so would fail again tomorrow."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _OF_THE_FILE
    return isinstance(error, (tf.errors.NotFoundError, tf.errors.PermissionDeniedError, fileio.NotFoundError))
