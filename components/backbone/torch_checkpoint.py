"""Reads PyTorch checkpoints without PyTorch, and without trusting the file.

A checkpoint is a pickle, and a pickle may call any function it can name. The unpickler here accepts three kinds of
names and refuses all others. Tensors are cut out of the raw bytes only after their bounds were checked.
The format is the stream that PyTorch wrote before 1.6 (`_legacy_save` in `torch/serialization.py`), which all built-in
weights have; the zip archives of later versions are refused.
"""

import collections
import hashlib
import io
import math
import pickle
import pickletools
from pathlib import Path

import numpy as np

from schemas.errors import BadInput

# Text, not numpy dtypes: a pickle can alter the state of most objects it is handed, but not that of a string.
STORAGE_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "|b1",
}
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

_Storage = collections.namedtuple("_Storage", "key dtype length")
_Tensor = collections.namedtuple("_Tensor", "storage offset shape strides")


class _TensorUnpickler(pickle.Unpickler):
    """Yields `_Tensor` records for tensors; accepts only the names in `find_class`."""

    def __init__(self, stream: io.BytesIO):
        super().__init__(stream)
        self.stream = stream
        self.dtypes: dict[str, str] = {}

    def load(self):
        start, size = self.stream.tell(), len(self.stream.getbuffer())
        for opcode, argument, _ in pickletools.genops(self.stream):
            # The memo is an array as long as its greatest index: a few bytes could claim all memory.
            if opcode.name.endswith("PUT") and int(argument or 0) > size:
                raise BadInput(f"the pickle asks for a memo of {argument} entries")
        self.stream.seek(start)
        return super().load()

    def find_class(self, module: str, name: str):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _Tensor(storage, offset, shape, strides)
        if module == "torch" and name in STORAGE_DTYPES:
            return STORAGE_DTYPES[name]
        raise BadInput(
            f"the pickle names {module}.{name}, which was not executed: only tensors, their storages and "
            "ordered dictionaries are read. Save a plain state_dict instead"
        )

    def persistent_load(self, pid):
        kind, dtype, key, _location, length, *view = pid
        if kind != "storage" or dtype not in STORAGE_DTYPES.values() or any(part is not None for part in view):
            raise BadInput(f"the pickle refers to {pid!r}; only whole tensor storages are read")
        self.dtypes[str(key)] = dtype
        return _Storage(str(key), dtype, int(length))


def _read_stream(content: bytes) -> tuple[object, dict[str, bytes]]:
    stream = io.BytesIO(content)
    magic, _protocol, system = (_TensorUnpickler(stream).load() for _ in range(3))
    if magic != LEGACY_MAGIC or not system["little_endian"]:
        raise BadInput("it is not a little-endian PyTorch checkpoint")
    unpickler = _TensorUnpickler(stream)
    tensors = unpickler.load()
    storages = {}
    for key in _TensorUnpickler(stream).load():
        length = int.from_bytes(stream.read(8), "little")
        storages[key] = stream.read(length * np.dtype(unpickler.dtypes[key]).itemsize)
    return tensors, storages


def _cut_out(name: str, tensor: object, storages: dict[str, bytes]) -> np.ndarray:
    """The array of one `_Tensor`; raises BadInput unless every element is inside the storage's bytes."""
    if not isinstance(tensor, _Tensor) or not isinstance(tensor.storage, _Storage):
        raise BadInput(f"`{name}` is a {type(tensor).__name__}, not a tensor")
    (key, dtype, length), offset, shape, strides = tensor
    content, itemsize = storages.get(key, b""), np.dtype(dtype).itemsize
    if len(content) != length * itemsize:
        raise BadInput(f"the storage of `{name}` holds {len(content)} bytes instead of {length * itemsize}")
    numbers = (offset, *shape, *strides)
    sane = len(shape) == len(strides) and all(isinstance(n, int) and n >= 0 for n in numbers)
    count = math.prod(shape)
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=False))
    # The count also forbids strides of 0 that would blow a few bytes up to any size.
    if not sane or count > length or (count and last >= length):
        raise BadInput(
            f"`{name}` (offset {offset}, shape {shape}, strides {strides}) reaches outside its storage of "
            f"{length} elements"
        )
    flat = np.frombuffer(content, dtype)[offset:]
    view = np.lib.stride_tricks.as_strided(flat, shape, [stride * itemsize for stride in strides])
    return np.ascontiguousarray(view).reshape(shape)


def read_torch_checkpoint(path: str | Path, sha256: str | None = None) -> dict[str, np.ndarray]:
    """Reads a PyTorch state_dict.

    Args:
      path: a file written by `torch.save` of PyTorch before 1.6.
      sha256: of the file, 64 hexadecimal digits, compared before anything is parsed; None for no comparison.

    Returns:
      name -> array, in the file's order, of the dtype and shape saved.

    Raises:
      BadInput: the file is missing, truncated, not the expected one, or contains anything but tensors.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.") from error
    digest = hashlib.sha256(content).hexdigest()
    if sha256 is not None and digest != sha256:
        raise BadInput(
            f"{path} has SHA-256 {digest}, expected {sha256}: it is damaged or another version. Install it again."
        )
    try:
        tensors, storages = _read_stream(content)
        if not isinstance(tensors, dict):
            raise BadInput(f"it holds a {type(tensors).__name__}, not a dictionary of tensors")
        return {str(name): _cut_out(name, tensor, storages) for name, tensor in tensors.items()}
    except BadInput as error:
        raise BadInput(f"{path} was refused: {error}.") from None
    except Exception as error:  # A damaged pickle can fail with almost any exception.
        raise BadInput(
            f"{path} is truncated or not a PyTorch checkpoint ({type(error).__name__}: {error}). Download it again."
        ) from error
