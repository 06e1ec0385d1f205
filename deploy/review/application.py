"""The addresses of the review page. Decisions are posted as JSON and written at once; see `deploy.review`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploy.collection import CollectedPhoto, Collection
from deploy.review.decisions import DecisionError, Decisions
from deploy.review.items import MOST_ITEMS, Item
from deploy.review.new_span import NewSpan, find_place, is_folder_name, make_span
from deploy.review.photo_finder import PhotoFinder
from deploy.serve.guard import RefusedError, WebApplication, error_response, json_response
from pipeline.config import Config
from schemas.corrections import Correction
from schemas.errors import BadInput

_REVIEW, _SERVE = Path(__file__).with_name("page"), Path(__file__).parents[1] / "serve" / "page"
# Address -> file and its type; the style is that of the serving page.
_PAGE_FILES = {
    "/": (_REVIEW / "review.html", "text/html"),
    "/review.css": (_REVIEW / "review.css", "text/css"),
    "/review.js": (_REVIEW / "review.js", "text/javascript"),
    "/page.css": (_SERVE / "page.css", "text/css"),
}
_MOST_BODY_BYTES = 10_000
_TIMEOUT_SECONDS = 30.0
_DECISIONS = ("keep", "change", "drop", "undo")


@dataclass(frozen=True)
class Reviewed:
    """What a review is about."""

    run_id: str
    config: Config
    items: Sequence[Item]
    decisions: Decisions
    finder: PhotoFinder
    command: str
    """A command that learns from the corrections."""
    collection: Collection | None = None
    into: str | None = None
    """Where labelled photos go, instead of the next span."""


class ReviewApplication(WebApplication):
    """Everything that the server of one review knows."""

    def __init__(self, reviewed: Reviewed, on_loopback: bool = True, token: str = ""):
        super().__init__(_PAGE_FILES, token, _TIMEOUT_SECONDS)
        self._reviewed = reviewed
        self._items = {item.content_hash: item for item in reviewed.items[:MOST_ITEMS]}
        self._pictures = ThreadPoolExecutor(2, "picture")
        routes = [
            self.route("/items", self._list),
            self.route("/photo/{content_hash}", self._photo),
            self.route("/decide", self._decide, "POST"),
            self.route("/label", self._label, "POST"),
            self.route("/span", self._span, "POST"),
        ]
        self.serve_routes(routes, on_loopback)

    def route(self, path: str, answer: Callable[[Request], Awaitable[Response]], method: str = "GET") -> Route:
        """As of every application, for those who may ask."""

        async def guarded(request: Request) -> Response:
            if not self.token.is_shown(request):
                raise RefusedError(401, "Open the address that the server printed, with its token.")
            return await answer(request)

        return super().route(path, guarded, method)

    def refusal_of(self, error: Exception) -> Response | None:
        """Of decisions that make no sense, or cannot be kept."""
        if isinstance(error, DecisionError):
            return error_response(400, str(error))
        if isinstance(error, BadInput):
            return error_response(409, str(error))
        if isinstance(error, OSError):
            return error_response(500, f"The decision could not be written: {error.strerror or error}.")
        return None

    # ---- what the addresses answer

    async def _list(self, request: Request) -> Response:
        reviewed = self._reviewed
        said = await asyncio.to_thread(reviewed.decisions.read)
        collected = await asyncio.to_thread(reviewed.collection.photos) if reviewed.collection else []
        return json_response(
            {
                "name": reviewed.config.name,
                "run": reviewed.run_id,
                "labels": reviewed.decisions.labels,
                "of_masks": bool(reviewed.config.mask_size),
                "file": str(reviewed.decisions.file),
                "command": reviewed.command,
                "found": len(reviewed.items),
                "items": [_shown(item, said.get(item.content_hash)) for item in self._items.values()],
                "collects": reviewed.collection is not None,
                "collected": [asdict(photo) for photo in collected[:MOST_ITEMS]],
            }
        )

    async def _photo(self, request: Request) -> Response:
        content_hash = request.path_params["content_hash"]
        # Beside the threads that write decisions, which do not wait for pictures.
        photo = await asyncio.get_running_loop().run_in_executor(self._pictures, self._picture, content_hash)
        if photo is None:
            raise RefusedError(404, "The photo is not where it was, and not in the run's examples.")
        return Response(photo, media_type="image/jpeg")

    def _picture(self, content_hash: str) -> bytes | None:
        found = self._reviewed.finder.picture(content_hash)
        if found is None and (photo := self._collected(content_hash)) and (collection := self._reviewed.collection):
            return self._reviewed.finder.small((collection.folder / photo.file).read_bytes())
        return found

    async def _decide(self, request: Request) -> Response:
        asked = await self._body(request)
        item = self._items.get(asked.get("content_hash", ""))
        kind, label = asked.get("decision", ""), asked.get("label", "")
        if item is None:
            raise RefusedError(404, "The run has no such photo to review.")
        if kind not in _DECISIONS:
            raise RefusedError(400, f"The decision is none of {', '.join(_DECISIONS)}.")
        said = await asyncio.to_thread(self._reviewed.decisions.decide, item, kind, label)
        return json_response(_shown(item, said))

    async def _label(self, request: Request) -> Response:
        """What a collected photo shows: a class, an empty text to leave it out, or null to take that back."""
        asked = await self._body(request, may_be_null="label")
        label, labels = asked.get("label"), self._reviewed.decisions.labels
        photo = await asyncio.to_thread(self._collected, asked.get("content_hash") or "")
        if photo is None or self._reviewed.collection is None:
            raise RefusedError(404, "There is no such collected photo.")
        if label and (label not in labels or not is_folder_name(label)):
            raise RefusedError(400, f"{label[:80]!r} is not a class that can be a folder.")
        said = await asyncio.to_thread(self._reviewed.collection.say, photo, label)
        return json_response(asdict(said))

    async def _span(self, request: Request) -> Response:
        await self._body(request)
        if self._reviewed.collection is None:
            raise RefusedError(404, "Nothing is collected here.")
        made = await asyncio.to_thread(self._make_span)
        return json_response({"folder": str(made.folder), "photos": made.photos, "removed": made.removed})

    def _make_span(self) -> NewSpan:
        assert self._reviewed.collection is not None
        config = self._reviewed.config
        return make_span(self._reviewed.collection, find_place(config, self._reviewed.into), config.data.success_file)

    # ---- what they share

    def _collected(self, content_hash: str) -> CollectedPhoto | None:
        photos = self._reviewed.collection.photos() if self._reviewed.collection else []
        return next((photo for photo in photos if photo.content_hash == content_hash), None)

    async def _body(self, request: Request, may_be_null: str = "") -> dict[str, Any]:
        """The JSON object of a request, whose values are texts.

        Raises:
          RefusedError: it is something else.
        """
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise RefusedError(415, "The body is not JSON; expected the content type application/json.")
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MOST_BODY_BYTES:
                raise RefusedError(413, f"The body is too large; at most {_MOST_BODY_BYTES:,} bytes are read.")
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            asked = None
        if not isinstance(asked, dict):
            raise RefusedError(400, "The body is not a JSON object.")
        for name, value in asked.items():
            if not isinstance(value, str) and not (value is None and name == may_be_null):
                raise RefusedError(400, f"{name[:40]} is not a text.")
        return asked


def _shown(item: Item, said: Correction | None) -> dict[str, Any]:
    """An item for the page, with what the file of corrections says of it."""
    known = {name: value for name, value in asdict(item).items() if name != "places"}
    decision = {"new_label": said.new_label, "who": said.who, "when": said.when} if said else None
    return {**known, "decision": decision}
