"""Content of files that may be thrown away at any time, and so must not be trusted: a checksum goes before it."""

from __future__ import annotations

import hashlib

_SIZE = 16  # bytes


def seal(content: bytes, name: str) -> bytes:
    """The content with its checksum, which holds for this name only: of two files that were swapped neither fits."""
    return _checksum(content, name) + content


def unseal(sealed: bytes, name: str) -> bytes | None:
    """The content that was sealed under this name; None: it was cut off, changed, or is another file's."""
    checksum, content = sealed[:_SIZE], sealed[_SIZE:]
    return content if checksum == _checksum(content, name) else None


def _checksum(content: bytes, name: str) -> bytes:
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape") + b"\0", digest_size=_SIZE)
    digest.update(content)
    return digest.digest()
