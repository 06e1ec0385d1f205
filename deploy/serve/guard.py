"""What all servers of warmstart share: who may ask, the headers of every response, and refusals as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_COOKIE = "warmstart"
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class RefusedError(Exception):
    """A request is not answered, with this HTTP status and for this reason."""

    def __init__(self, status: int, reason: str):
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


def json_response(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """With NaN and Infinity as TensorFlow Serving writes them, which Starlette's own response refuses."""
    return Response(json.dumps(content), status, headers, "application/json")


def error_response(status: int, reason: str, headers: Any = None) -> Response:
    """A refusal."""
    retry = {"Retry-After": "1"} if status == 503 else {}
    body = json.dumps({"error": reason}).encode()
    return Response(body, status, {**(headers or {}), **retry}, "application/json")


# Given the path of a request, it is told the status of the response.
Timed = Callable[[str], contextlib.AbstractContextManager[Callable[[int], None]]]


@contextlib.contextmanager
def _not_timed(path: str) -> Iterator[Callable[[int], None]]:
    yield lambda status: None


class Guard:
    """Adds the headers of every response, and refuses what another website makes a browser send."""

    def __init__(self, app: ASGIApp, on_loopback: bool, timed: Timed):
        """
        Args:
          on_loopback: the server is for this machine alone, so requests for other hosts are refused.
        """
        self._app = app
        self._on_loopback = on_loopback
        self._timed = timed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        with self._timed(request.url.path) as done:

            async def send_with_headers(message: Message) -> None:
                if message["type"] == "http.response.start":
                    done(message["status"])
                    known = {name.lower() for name, _ in message["headers"]}
                    added = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
                    message["headers"] = [*message["headers"], *(pair for pair in added if pair[0] not in known)]
                await send(message)

            refusal = self._refusal(request)
            app: ASGIApp = error_response(403, refusal) if refusal else self._app
            await app(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> str:
        """Why a request is refused; empty: it is not."""
        host = request.headers.get("host", "")
        if self._on_loopback and not is_loopback(host_name(host)):
            # A name of somebody else's that leads to this machine would make its pages ours (DNS rebinding).
            return "The server answers requests for this machine only, such as for localhost."
        if request.method in ("GET", "HEAD"):
            return ""
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "same-origin")
        if site in ("cross-site", "same-site") or (origin is not None and origin.partition("://")[2] != host):
            return "Pages of other websites may not ask this server."
        return ""


class Token:
    """A secret that a client has to show: as `Authorization: Bearer`, or once in the address of the page."""

    def __init__(self, value: str = ""):
        """An empty value asks for nothing."""
        self._value = value

    def is_shown(self, request: Request) -> bool:
        """Whether a request may be answered."""
        if not self._value:
            return True
        kind, _, bearer = request.headers.get("authorization", "").partition(" ")
        cookie = SimpleCookie(request.headers.get("cookie", "")).get(_COOKIE)
        shown = [bearer if kind.lower() == "bearer" else "", cookie.value if cookie else ""]
        shown.append(request.query_params.get("token", "") if request.url.path == "/" else "")
        return any(hmac.compare_digest(one.encode(), self._value.encode()) for one in shown)

    def page_without_it(self, request: Request) -> Response | None:
        """The redirection that takes the token out of the address of the page, where a cookie stands for it then; None:
        the address has none.
        """
        if request.url.path != "/" or "token" not in request.query_params or not self.is_shown(request):
            return None
        response = RedirectResponse("/", 303)
        if self._value:
            response.set_cookie(_COOKIE, self._value, httponly=True, samesite="strict")
        return response


class WebApplication:
    """A page and the addresses behind it; what an address answers comes in time, or is refused as JSON.

    Attributes:
      asgi: the application, for a server; set by `serve_routes`.
      timeout_seconds: until a request is answered, from its first byte on.
    """

    asgi: ASGIApp

    def __init__(self, page_files: Mapping[str, tuple[Path, str]], token: str, timeout_seconds: float):
        """
        Args:
          page_files: address -> file of the page, and its type.
          token: what a client has to show; empty: nothing.
        """
        self.timeout_seconds = timeout_seconds
        self.token = Token(token)
        self._page = {path: (file.read_bytes(), kind) for path, (file, kind) in page_files.items()}

    def serve_routes(self, routes: list[Route], on_loopback: bool, timed: Timed = _not_timed, **starlette: Any) -> None:
        """Sets `asgi` to the page and these routes; the rest is as for `Guard` and Starlette."""
        routes = [*(self.route(path, self._page_file) for path in self._page), *routes]
        handlers = {HTTPException: self.on_http_exception, Exception: self._on_error}
        self.asgi = Guard(Starlette(routes=routes, exception_handlers=handlers, **starlette), on_loopback, timed)

    def route(self, path: str, answer: Callable[[Request], Awaitable[Response]], method: str = "GET") -> Route:
        """What an address answers, within the time-out, and its refusals as responses."""

        async def within_limits(request: Request) -> Response:
            try:
                return await asyncio.wait_for(answer(request), self.timeout_seconds)
            except RefusedError as refused:
                return error_response(refused.status, refused.reason)
            except asyncio.TimeoutError:
                return self.on_timeout(request)
            except ClientDisconnect:  # nobody reads this
                return error_response(400, "The body ended early.")
            except Exception as error:
                if refusal := self.refusal_of(error):
                    return refusal
                raise

        return Route(path, within_limits, methods=[method])

    def refusal_of(self, error: Exception) -> Response | None:
        """The response to a request that cannot be answered for this reason; None: it is a fault of the server."""
        return None

    def on_timeout(self, request: Request) -> Response:
        """The response to a request that was not answered in time."""
        return error_response(504, f"There was no answer within {self.timeout_seconds:g} seconds.")

    async def on_http_exception(self, request: Request, error: Exception) -> Response:
        """The response of an address that does not exist, or not like this."""
        assert isinstance(error, HTTPException)
        reason = {404: "There is nothing at this address.", 405: "This address does not take this method."}
        return error_response(error.status_code, reason.get(error.status_code, error.detail), error.headers)

    async def _on_error(self, request: Request, error: Exception) -> Response:
        return error_response(500, "The server failed to answer; its log says why.")

    async def _page_file(self, request: Request) -> Response:
        if redirection := self.token.page_without_it(request):
            return redirection
        content, kind = self._page[request.url.path]
        return Response(content, media_type=kind)


def host_name(host: str) -> str:
    """The name or address in a `Host` header, without the port."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def is_loopback(host: str) -> bool:
    """Whether a name or address is of the machine itself."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
