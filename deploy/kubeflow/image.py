"""References to container images."""

from __future__ import annotations

import re

from schemas.errors import BadInput

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REGISTRY = r"(?:localhost|[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)+|[a-zA-Z0-9-]+(?=:\d))(?::\d+)?"
_DIGEST = r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}"
_IMAGE = re.compile(
    rf"(?:{_REGISTRY}/)?{_COMPONENT}(?:/{_COMPONENT})*(?::\w[\w.-]{{0,127}})?(?:@(?:{_DIGEST}))?", re.ASCII
)


def check_reference(image: str) -> None:
    """Checks the form of a reference, but not whether the image exists.

    Raises:
      BadInput: it is not an image reference.
    """
    if not _IMAGE.fullmatch(image):
        raise BadInput(
            f"{image!r} is not an image reference; expected [registry/]name[:tag], such as ghcr.io/me/warmstart:1.0"
        )
