"""The addresses of the server, and what each answers.

TensorFlow Serving's REST protocol with its status codes (`ToHTTPStatusCode` in `model_servers/http_server.cc`) and its
errors, `{"error": ...}`; KServe's V2 protocol, whose errors have the same form; `/metrics` for Prometheus; a page, and
`/answer` behind it, which answers one photo as `warmstart predict --json` does. Every response about photos names the
version that answered in the header `X-Model-Version`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import io
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from components.example_gen.photo import PhotoRejected
from components.overlays.drawing import palette_png
from components.overlays.palette import hex_colour
from deploy.collection import Collection, why_not_kept
from deploy.installed import version_of
from deploy.prediction import shares_of
from deploy.serve import protocol
from deploy.serve.batcher import Batcher, BatchLimits, OverloadedError
from deploy.serve.guard import RefusedError, WebApplication, error_response, json_response
from deploy.serve.metrics import Metrics
from deploy.serve.model import ModelVersion, ReadyPhoto, ServedModel, is_large

Result = TypeVar("Result")
Content = TypeVar("Content")

VERSION_HEADER = "X-Model-Version"
_PAGE = Path(__file__).with_name("page")
# Address -> file of the page, and its type.
_PAGE_FILES = {
    "/": (_PAGE / "page.html", "text/html"),
    "/page.css": (_PAGE / "page.css", "text/css"),
    "/page.js": (_PAGE / "page.js", "text/javascript"),
}
_POLL_SECONDS = 1  # as TensorFlow Serving
_DISCARDED = 4  # times the largest body


@dataclass(frozen=True)
class Limits:
    """What a client may ask of the server.

    body_bytes: of one request. bodies_bytes: of all requests that are being read or answered. timeout_seconds: until a
    request is answered, from its first byte on.
    """

    body_bytes: int = 32_000_000
    bodies_bytes: int = 256_000_000
    timeout_seconds: float = 30
    batches: BatchLimits = field(default_factory=BatchLimits)


class _PhotoRefusedError(Exception):
    """`number` is the photo's place in its request."""

    def __init__(self, number: int, rejected: PhotoRejected):
        super().__init__(number, rejected)
        self.number = number
        self.rejected = rejected


class Application(WebApplication):
    """Everything that one server knows."""

    def __init__(
        self,
        model: ServedModel,
        limits: Limits,
        on_loopback: bool = True,
        note: Callable[[str], None] = lambda text: None,
        collection: Collection | None = None,
        token: str = "",
    ):
        """
        Args:
          on_loopback: the server is for this machine alone, so requests for other hosts are refused.
          collection: keeps photos that the model is not sure of; None: no photo is kept.
          token: whoever does not show it gets answers, and no photo of theirs is kept; empty: everybody shows it.
        """
        super().__init__(_PAGE_FILES, token, limits.timeout_seconds)
        self.model = model
        self.limits = limits
        self._note = note
        self._collection = collection
        self._bytes = 0
        self._batcher: Batcher[tuple[ModelVersion, str], bytes] = Batcher(self._run, limits.batches)
        self._metrics = Metrics(lambda: self.model.current.number, lambda: self._batcher.accepted)
        # TensorFlow computes a batch on all cores, so there is one at a time; photos are read meanwhile.
        self._caller = ThreadPoolExecutor(1, "model")
        self._readers = ThreadPoolExecutor(os.cpu_count() or 1, "reader")
        # One at a time, and in nobody's way: see `is_large`.
        self._large_reader = ThreadPoolExecutor(1, "large")
        self._loader = ThreadPoolExecutor(1, "loader")
        self.serve_routes(
            self._routes(), on_loopback, lambda path: self._metrics.request(_kind(path)), lifespan=self._lifespan
        )

    def _routes(self) -> list[Route]:
        route = self.route
        name, version = "{name}", "{name}/versions/{version}"
        routes = [
            route("/model", self._about),
            route("/answer", self._answer, "POST"),
            route("/metrics", self._metrics_page),
            route("/v2", self._server_metadata),
            route("/v2/health/live", self._live),
            route("/v2/health/ready", self._live),
        ]
        for model in (version, name):
            routes += [
                route(f"/v1/models/{model}:predict", self._predict, "POST"),
                route(f"/v1/models/{model}/metadata", self._metadata),
                route(f"/v1/models/{model}", self._status),
                route(f"/v2/models/{model}/ready", self._model_ready),
                route(f"/v2/models/{model}/infer", self._infer, "POST"),
                route(f"/v2/models/{model}", self._model_metadata),
            ]
        return routes

    # ---- what the addresses answer

    async def _about(self, request: Request) -> Response:
        version = self.model.current
        return _json(
            {
                "name": self.model.name,
                "version": version.number,
                "labels": version.labels,
                "largest_photo_bytes": self.limits.body_bytes,
                "keeps_unsure_photos": self._collection is not None and self.token.is_shown(request),
            }
        )

    async def _answer(self, request: Request) -> Response:
        version = self.model.current
        async with self._body(request) as body:
            try:
                outputs = await self._outputs(request, version, protocol.DEFAULT_SIGNATURE, [body])
            except _PhotoRefusedError as refused:
                rejected = refused.rejected
                answer = {"reason": rejected.reason, "error": f"The photo {rejected.detail}", "version": version.number}
                return _json(answer, 400)
        answered = functools.partial(answer_of, outputs, version.labels)
        answer = await asyncio.get_running_loop().run_in_executor(self._readers, answered)
        answer["version"] = version.number
        return _json(answer, version=version)

    async def _predict(self, request: Request) -> Response:
        version = self._version_of(request)
        async with self._body(request) as body:
            asked = await self._read(protocol.parse_predict, body)
            outputs = await self._outputs(request, version, asked.signature, asked.photos)
        return _json(protocol.predict_response(outputs, asked.in_rows), version=version)

    async def _infer(self, request: Request) -> Response:
        version = self._version_of(request)
        async with self._body(request) as body:
            asked = await self._read(protocol.parse_infer, body)
            outputs = await self._outputs(request, version, protocol.DEFAULT_SIGNATURE, asked.photos)
        return _json(protocol.infer_response(outputs, asked, self.model.name, version.number), version=version)

    async def _status(self, request: Request) -> Response:
        """As `GetModelStatusResponse`; a version that is loading or failed is only listed without a version."""
        current = self._version_of(request).number
        states = {current: ("AVAILABLE", "OK", "")}
        if "version" not in request.path_params:
            states |= {number: ("END", "UNKNOWN", reason) for number, reason in self.model.failed.items()}
            if self.model.loading is not None:
                states[self.model.loading] = ("LOADING", "OK", "")
        listed = [
            {"version": str(number), "state": state, "status": {"error_code": code, "error_message": message}}
            for number, (state, code, message) in sorted(states.items(), reverse=True)
        ]
        return _json({"model_version_status": listed})

    async def _metadata(self, request: Request) -> Response:
        version = self._version_of(request)
        spec = {"name": self.model.name, "signature_name": "", "version": str(version.number)}
        return _json({"model_spec": spec, "metadata": {"signature_def": version.metadata}})

    async def _live(self, request: Request) -> Response:
        return _json({request.url.path.rpartition("/")[2]: True})

    async def _server_metadata(self, request: Request) -> Response:
        return _json({"name": "warmstart", "version": version_of("warmstart") or "", "extensions": []})

    async def _model_ready(self, request: Request) -> Response:
        self._version_of(request)
        return _json({"name": self.model.name, "ready": True})

    async def _model_metadata(self, request: Request) -> Response:
        version = self._version_of(request)
        outputs = [
            {"name": name, "datatype": protocol.kserve_type(dtype), "shape": shape}
            for name, (dtype, shape) in version.outputs().items()
        ]
        return _json(
            {
                "name": self.model.name,
                "versions": [str(version.number)],
                "platform": "tensorflow_savedmodel",
                "inputs": [{"name": protocol.INPUT, "datatype": "BYTES", "shape": [-1]}],
                "outputs": outputs,
            }
        )

    async def _metrics_page(self, request: Request) -> Response:
        return Response(self._metrics.page(), headers={"Content-Type": self._metrics.content_type})

    # ---- what they share

    def _version_of(self, request: Request) -> ModelVersion:
        """The version that a request is for."""
        name, version, current = request.path_params["name"], request.path_params.get("version"), self.model.current
        if ":" in name:
            raise RefusedError(400, f"Malformed request: {request.method} {request.url.path[:200]}")
        if name != self.model.name:
            raise RefusedError(404, f"Servable not found for request: Latest({name[:80]})")
        if version is None or version == str(current.number):
            return current
        if not (version.isascii() and version.isdecimal()):
            raise RefusedError(400, f"Malformed request: {request.method} {request.url.path[:200]}")
        raise RefusedError(404, f"Servable not found for request: Specific({name}, {version[:20]})")

    @contextlib.asynccontextmanager
    async def _body(self, request: Request) -> AsyncIterator[bytes]:
        """The body of a request, which counts among `bodies_bytes` until it is answered.

        Raises:
          RefusedError: it is empty or too large.
        """
        limit = self.limits.body_bytes
        chunks: list[bytes] = []
        kept = came = 0
        try:
            async for chunk in request.stream():
                came += len(chunk)
                if came <= limit:
                    kept += len(chunk)
                    self._bytes += len(chunk)
                    chunks.append(chunk)
                elif came > _DISCARDED * limit:  # before that it is read and dropped: most clients send all, then read
                    break
                else:
                    chunks.clear()
                if self._bytes > self.limits.bodies_bytes:
                    raise RefusedError(503, "The server is answering too many large requests; try again in a moment.")
            request.state.is_read = True
            if came > limit:
                raise RefusedError(413, f"The body is too large; at most {limit / 1e6:g} MB are read.")
            if not came:
                raise RefusedError(400, "The body is empty.")
            yield b"".join(chunks)
        finally:
            self._bytes -= kept

    async def _outputs(
        self, request: Request, version: ModelVersion, signature: str, photos: list[bytes]
    ) -> dict[str, np.ndarray]:
        """The outputs for photos as they were sent: name -> array [photos, ...].

        Raises:
          RefusedError: the model has no such signature, or there are more photos than are ever accepted.
          _PhotoRefusedError: one is not a photo that the model takes.
          OverloadedError: too many photos are waiting.
        """
        if signature not in version.signatures:
            raise RefusedError(
                400,
                f"The model has no signature {signature[:80]!r} that takes photos; it has "
                f"{', '.join(sorted(version.signatures))}.",
            )
        if len(photos) > self.limits.batches.queued_items:
            raise RefusedError(
                400,
                f"The request has {len(photos):,} photos; send at most {self.limits.batches.queued_items} at once.",
            )
        with self._batcher.accept(len(photos)):
            ready = await asyncio.gather(*(self._ready(version, photo) for photo in photos), return_exceptions=True)
            answers = await asyncio.gather(
                *(
                    self._batcher.answer((version, signature), photo.photo_bytes, photo.pixels)
                    for photo in _all_good(ready, ReadyPhoto, self._metrics)
                ),
                return_exceptions=True,
            )
        rows = list(_all_good(answers, dict, self._metrics))
        outputs = {name: _stack([row[name] for row in rows]) for name in rows[0]}
        self._metrics.answered(len(rows), int(np.sum(outputs["abstains"])) if "abstains" in outputs else 0)
        if self._collection and signature == protocol.DEFAULT_SIGNATURE and self.token.is_shown(request):
            await self._read(lambda some: self._collect(some, version, outputs), photos)
        return outputs

    def _collect(self, photos: list[bytes], version: ModelVersion, outputs: protocol.Outputs) -> None:
        """Keeps those of the photos that the collection wants; a full disk costs no answer."""
        assert self._collection is not None
        for i, photo in enumerate(photos):
            probabilities = dict(zip(version.labels, map(float, outputs["probabilities"][i]), strict=True))
            abstains = bool(outputs["abstains"][i]) if "abstains" in outputs else False
            try:
                self._collection.offer(
                    photo, outputs["label"][i].decode(), probabilities, abstains, version=version.number
                )
            except OSError as error:
                self._note(why_not_kept(error, self._collection.folder))

    async def _run(self, key: tuple[ModelVersion, str], photos: list[bytes]) -> list[dict[str, np.ndarray] | Exception]:
        version, signature = key
        self._metrics.batch(len(photos))
        return await asyncio.get_running_loop().run_in_executor(self._caller, version.run, signature, photos)

    async def _ready(self, version: ModelVersion, photo: bytes) -> ReadyPhoto:
        reader = self._large_reader if await self._read(is_large, photo) else self._readers
        return await asyncio.get_running_loop().run_in_executor(reader, version.read, photo)

    async def _read(self, read: Callable[[Content], Result], content: Content) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._readers, read, content)

    def refusal_of(self, error: Exception) -> Response | None:
        """Of bodies and photos that are not as they should be, and of too many at once."""
        if isinstance(error, protocol.MalformedError):
            return error_response(400, str(error))
        if isinstance(error, _PhotoRefusedError):
            return error_response(400, f"Photo {error.number} of the request {error.rejected.detail}")
        if isinstance(error, OverloadedError):
            return error_response(503, "Too many photos are waiting for an answer; try again in a moment.")
        return None

    def on_timeout(self, request: Request) -> Response:
        """Says too where the body did not come in time."""
        if request.method == "POST" and not getattr(request.state, "is_read", False):
            return error_response(408, f"The body did not come within {self.timeout_seconds:g} seconds.")
        return super().on_timeout(request)

    async def on_http_exception(self, request: Request, error: Exception) -> Response:
        """Below `/v1/` as TensorFlow Serving."""
        if isinstance(error, HTTPException) and error.status_code in (404, 405) and request.url.path.startswith("/v1/"):
            return error_response(400, f"Malformed request: {request.method} {request.url.path[:200]}")
        return await super().on_http_exception(request, error)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._batcher.work()), asyncio.create_task(self._keep_up())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for executor in (self._caller, self._readers, self._large_reader, self._loader):
                executor.shutdown(wait=False, cancel_futures=True)

    async def _keep_up(self) -> None:
        """Takes up new versions for as long as the server runs."""
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            try:
                await asyncio.get_running_loop().run_in_executor(self._loader, self.model.update, self._note)
            except Exception as error:  # whatever a version does, the current one goes on
                self._note(f"looking for a new version failed: {type(error).__name__}: {error}")


def _all_good(results: list[Any], kind: type[Result], metrics: Metrics) -> Iterator[Result]:
    """The results, if all are good.

    Raises:
      _PhotoRefusedError: a photo was rejected; another exception: of the first that has one.
    """
    bad = [(i, result) for i, result in enumerate(results) if isinstance(result, BaseException)]
    if bad:
        number, error = bad[0]
        metrics.rejected(sum(isinstance(error, PhotoRejected) for _, error in bad))
        raise _PhotoRefusedError(number, error) if isinstance(error, PhotoRejected) else error
    yield from results


def _stack(values: list[Any]) -> np.ndarray:
    if not isinstance(values[0], bytes):
        return np.stack(values)
    strings = np.empty(len(values), object)  # NumPy's own type for bytes drops zeros at their end
    strings[:] = values
    return strings


def _json(content: Any, status: int = 200, version: ModelVersion | None = None) -> Response:
    return json_response(content, status, {VERSION_HEADER: str(version.number)} if version else None)


def _kind(path: str) -> str:
    """Of an address, for the metrics; a few, whatever clients ask for."""
    if path.startswith("/v1/models/") and path.endswith(":predict"):
        return "predict"
    if path.startswith("/v2/models/") and path.endswith("/infer"):
        return "infer"
    return "answer" if path == "/answer" else "other"


# Of the mask on the page, pixels; programs get all of it from `:predict`.
_LONGEST_SIDE = 1024


def answer_of(outputs: Mapping[str, np.ndarray], labels: Sequence[str]) -> dict[str, Any]:
    """The answer to one photo, ready for JSON.

    Args:
      outputs: of the signature `serving_default`: name -> array [1, ...].
    """
    if "mask_png_bytes" in outputs:
        return {
            "shares": shares_of(labels, outputs["class_shares"][0]),
            "colours": {label: hex_colour(i, labels) for i, label in enumerate(labels)},
            "mask": _for_page(outputs["mask_png_bytes"][0], labels),
        }
    probabilities = [float(p) for p in outputs["probabilities"][0]]
    return {
        "label": outputs["label"][0].decode(),
        "probability": float(outputs["probability"][0]),
        "abstains": bool(outputs["abstains"][0]) if "abstains" in outputs else False,
        "probabilities": dict(zip(labels, probabilities, strict=True)),
    }


def _for_page(png: bytes, labels: Sequence[str]) -> str:
    """A data URI of a PNG to lay over the photo: ids as indices, tints as colours."""
    image: Image.Image = Image.open(io.BytesIO(png))
    if max(image.size) > _LONGEST_SIDE:
        smaller = _LONGEST_SIDE / max(image.size)
        size = (max(1, round(image.width * smaller)), max(1, round(image.height * smaller)))
        image = image.resize(size, Image.Resampling.NEAREST)
    drawn = palette_png(np.array(image), labels, transparent=True)
    return "data:image/png;base64," + base64.b64encode(drawn).decode()
