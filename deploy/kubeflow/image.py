"""Whether a container image is there, asked of its registry."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from schemas.errors import BadInput

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?:(?P<registry>(?:localhost|[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)+|[a-zA-Z0-9-]+(?=:\d))(?::\d+)?)/)?"
    rf"(?P<name>{_COMPONENT}(?:/{_COMPONENT})*)"
    rf"(?::(?P<tag>\w[\w.-]{{0,127}}))?(?:@(?P<digest>sha256:[0-9a-f]{{64}}|sha512:[0-9a-f]{{128}}))?",
    re.ASCII,
)
_MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_REGISTRY_TIMEOUT = (5.0, 10.0)


def check_reference(image: str) -> re.Match[str]:
    """The parts of an image reference: `registry`, `name`, `tag` and `digest`; nobody is asked.

    Raises:
      BadInput: it is none.
    """
    match = _IMAGE.fullmatch(image)
    if match is None:
        raise BadInput(
            f"{image!r} is no image reference; expected [registry/]name[:tag], such as ghcr.io/me/warmstart:1.0"
        )
    return match


def check_image(image: str) -> str | None:
    """Asks an image's registry for it, without an account; None, or a sentence why that could not tell.

    Source: the OCI distribution specification (pull: `/v2/<name>/manifests/<reference>`), and Docker's token
    authentication for what a registry wants of anonymous users too.

    Raises:
      BadInput: it is no image reference, or the registry has no such image.
    """
    match = check_reference(image)
    registry, name = match["registry"] or "docker.io", match["name"]
    if registry == "docker.io":
        registry, name = "registry-1.docker.io", name if "/" in name else f"library/{name}"
    scheme = "http" if urlsplit(f"//{registry}").hostname in ("localhost", "127.0.0.1") else "https"
    url = f"{scheme}://{registry}/v2/{name}/manifests/{match['digest'] or match['tag'] or 'latest'}"

    import requests

    unknown = f"whether the image {image} is there could not be checked"
    try:
        status = _manifest_status(url, name)
    except requests.RequestException as error:
        return f"{unknown}: {registry} gave no answer ({type(error).__name__})"
    if status == 404:
        raise BadInput(
            f"the image {image} is not there: {registry} does not have it; push it first, or correct its name"
        )
    if status in (401, 403):
        return f"{unknown}: {registry} shows it to nobody without an account"
    return None if status == 200 else f"{unknown}: {registry} answered {status}"


def _manifest_status(url: str, name: str) -> int:
    """The registry's answer, with the anonymous token that it may ask for; some registries know GET only."""
    import requests

    headers = {"Accept": _MANIFESTS}
    for method in ("HEAD", "GET"):
        answer = requests.request(method, url, headers=headers, timeout=_REGISTRY_TIMEOUT)
        challenge = answer.headers.get("WWW-Authenticate", "")
        if answer.status_code == 401 and challenge.lower().startswith("bearer "):
            token = _anonymous_token(challenge, name)
            if token:
                headers["Authorization"] = f"Bearer {token}"
                answer = requests.request(method, url, headers=headers, timeout=_REGISTRY_TIMEOUT)
        if answer.status_code not in (405, 501):
            break
    return answer.status_code


def _anonymous_token(challenge: str, name: str) -> str:
    """The token that a registry gives everybody; empty: none."""
    import requests

    wanted = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    query = {"service": wanted.get("service", ""), "scope": wanted.get("scope") or f"repository:{name}:pull"}
    given = requests.get(wanted.get("realm", ""), params=query, timeout=_REGISTRY_TIMEOUT)
    try:
        content = given.json()
        return str(content.get("token") or content.get("access_token") or "")
    except (ValueError, AttributeError):
        return ""
