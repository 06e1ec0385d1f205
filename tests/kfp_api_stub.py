"""A small server on loopback with Kubeflow Pipelines' REST API v2beta1.

Its paths, query parameters and field names are those of the generated clients (kfp-server-api 2.0.5 and 2.17.3:
the modules `api` and `models`). What the server accepts and how it refuses was read in kubeflow/pipelines,
backend/src/apiserver (server/*.go, resource/resource_manager.go): names are unique for pipelines and versions, not for
runs and recurring runs; a pipeline that has versions cannot be deleted; `display_name` alone names a pipeline; a cron
expression must have five or six fields, as robfig/cron 1.2.0 counts them; unfinished tasks end in 1970; many users mean
that a namespace is asked for and checked, one user that it is not looked at. Errors have the form of gRPC's gateway
(`error`, `code`, `message`), those of uploads `error_message`.

Nothing here was compared with a running server.
"""

from __future__ import annotations

import contextlib
import email
import json
import re
import socket
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

LOGIN_PAGE = b"<!DOCTYPE html><html><head><title>Log in</title></head><body>Log in to continue</body></html>"
_CREATED = "2026-01-02T03:04:05Z"
_LONG_AGO = "1970-01-01T00:00:00Z"


@dataclass(frozen=True)
class Request:
    """A request that came in. query: first value of each. body: JSON, or the fields of an upload, or None."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


class Refusal(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, code: int, message: str):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass
class Failure:
    """Played for requests that match. after: the server has done it, and its answer is lost or wrong. drop: the
    connection is closed without an answer.
    """

    method: str
    path: str
    status: int = 500
    message: str = "database is gone"
    after: bool = False
    drop: bool = False
    times: int = 1

    def fits(self, request: Request) -> bool:
        return self.times > 0 and request.method == self.method and re.search(self.path, request.path) is not None


class _Server:
    """A server on a free port of loopback, for a `with` block; answers come from `answer`."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._lock = threading.Lock()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            server_version = "stub"
            wbufsize = 65536  # one packet for an answer: two are 40 ms apart

            def handle_any(self) -> None:
                parts = urlsplit(self.path)
                length = int(self.headers.get("Content-Length") or 0)
                raw = self.rfile.read(length)
                request = Request(
                    method=self.command,
                    path=re.sub("/+", "/", parts.path),
                    query={key: values[0] for key, values in parse_qs(parts.query).items()},
                    headers={key.lower(): value for key, value in self.headers.items()},
                    body=_body(self.headers.get("Content-Type") or "", raw),
                )
                with stub._lock:
                    stub.requests.append(request)
                    answer = stub.answer(request)
                if answer is None:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                status, headers, content = answer
                self.send_response(status)
                for key, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        for method in ("GET", "POST", "DELETE"):
            setattr(Handler, f"do_{method}", Handler.handle_any)
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def port(self) -> int:
        return self._http.server_address[1]

    def answer(self, request: Request) -> tuple[int, dict[str, str], bytes] | None:
        raise NotImplementedError

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def _body(content_type: str, raw: bytes) -> Any:
    if content_type.startswith("multipart/"):
        message = email.message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + raw)
        parts = [part for part in message.walk() if not part.is_multipart()]
        return {
            str(part.get_param("name", header="content-disposition")): {
                "filename": part.get_filename(),
                "content": part.get_payload(decode=True),
            }
            for part in parts
        }
    with contextlib.suppress(ValueError):
        return json.loads(raw)
    return None


@dataclass
class _State:
    """What the server holds, by id."""

    pipelines: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    recurring_runs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def counts(self) -> tuple[int, int, int, int, int]:
        """How many pipelines, versions, experiments, runs and recurring runs there are."""
        kinds = (self.pipelines, self.versions, self.experiments, self.runs, self.recurring_runs)
        pipelines, versions, experiments, runs, recurring_runs = map(len, kinds)
        return pipelines, versions, experiments, runs, recurring_runs


class KfpApiStub(_Server):
    """The API.

    Args:
      kind: `v2`; `v1` (v1beta1 only); `html` (a login page for everything); `redirect` (to a login page); `pages` (v2
        behind the server of Kubeflow's pages, which answers health itself); `other` (some other JSON server).
      many_users: whether namespaces matter.
      namespaces: those that the caller may use.
      token: the only one that is taken; None: all, and none.
      version: what v1beta1's health tells; empty: there is no v1beta1.
      prefix: of all paths, such as a Kubernetes proxy's.
      native_tasks: whether tasks are listed on their own, as from 3.0 on, in the form of
        proposals/12147-mlmd-removal/protos/runs.proto, and runs come without them.
    """

    def __init__(
        self,
        kind: str = "v2",
        many_users: bool = False,
        namespaces: tuple[str, ...] = ("team-a",),
        token: str | None = None,
        version: str = "2.5.0",
        prefix: str = "",
        native_tasks: bool = False,
    ) -> None:
        super().__init__()
        self.kind, self.many_users, self.namespaces = kind, many_users, namespaces
        self.token, self.version, self.prefix = token, version, prefix
        self.native_tasks, self._tasks_of_runs = native_tasks, dict[str, list[dict[str, Any]]]()
        self.state = _State()
        self.failures: list[Failure] = []
        # Run id -> what the next questions about it are answered with; the last one stays.
        self.frames: dict[str, list[dict[str, Any]]] = {}
        self._routes: list[tuple[str, str, Callable[..., dict[str, Any]]]] = [
            ("GET", "/apis/v2beta1/healthz", self._health),
            ("GET", "/apis/v1beta1/healthz", self._old_health),
            ("GET", "/apis/v2beta1/pipelines", self._list_pipelines),
            ("POST", "/apis/v2beta1/pipelines", self._create_pipeline),
            ("POST", "/apis/v2beta1/pipelines/upload_version", self._upload_version),
            ("DELETE", "/apis/v2beta1/pipelines/([^/]+)", self._delete_pipeline),
            ("GET", "/apis/v2beta1/pipelines/([^/]+)/versions", self._list_versions),
            ("DELETE", "/apis/v2beta1/pipelines/([^/]+)/versions/([^/]+)", self._delete_version),
            ("GET", "/apis/v2beta1/experiments", self._list_experiments),
            ("POST", "/apis/v2beta1/experiments", self._create_experiment),
            ("DELETE", "/apis/v2beta1/experiments/([^/]+)", self._delete_experiment),
            ("GET", "/apis/v2beta1/runs", self._list_runs),
            ("POST", "/apis/v2beta1/runs", self._create_run),
            ("GET", "/apis/v2beta1/runs/([^/]+)", self._get_run),
            ("GET", "/apis/v2beta1/runs/([^/]+)/tasks", self._list_tasks),
            ("DELETE", "/apis/v2beta1/runs/([^/]+)", self._delete_run),
            ("GET", "/apis/v2beta1/recurringruns", self._list_recurring_runs),
            ("POST", "/apis/v2beta1/recurringruns", self._create_recurring_run),
            ("GET", "/apis/v2beta1/recurringruns/([^/]+)", self._get_recurring_run),
            ("DELETE", "/apis/v2beta1/recurringruns/([^/]+)", self._delete_recurring_run),
        ]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.prefix}"

    def fail(self, method: str, path: str, **how: Any) -> None:
        """Lets requests fail: see `Failure`."""
        self.failures.append(Failure(method, path, **how))

    def sent(self, method: str, path: str) -> list[Request]:
        """Requests to exactly that path."""
        return [one for one in self.requests if one.method == method and one.path == self.prefix + path]

    def writes(self) -> list[tuple[str, str]]:
        """Method and path of all requests that change something."""
        return [(one.method, one.path) for one in self.requests if one.method != "GET"]

    def answer(self, request: Request) -> tuple[int, dict[str, str], bytes] | None:
        if self.kind == "html":
            return 200, {"Content-Type": "text/html"}, LOGIN_PAGE
        if self.kind == "redirect":
            return 302, {"Content-Type": "text/html", "Location": "/dex/auth"}, LOGIN_PAGE
        failure = next((one for one in self.failures if one.fits(request)), None)
        try:
            if failure is not None:
                failure.times -= 1
                if not failure.after:
                    if failure.drop:
                        return None
                    raise Refusal(failure.status, 13, failure.message)
            if self.token is not None and request.headers.get("authorization") != f"Bearer {self.token}":
                raise Refusal(401, 16, "Request not authenticated")
            content = self._route(request)
            if failure is not None:
                if failure.drop:
                    return None
                raise Refusal(failure.status, 13, failure.message)
            return 200, {}, json.dumps(content).encode()
        except Refusal as refusal:
            if "/upload" in request.path:
                told: dict[str, Any] = {"error_message": refusal.message, "error_details": refusal.message}
            else:
                told = {"error": refusal.message, "code": refusal.code, "message": refusal.message, "details": []}
            return refusal.status, {}, json.dumps(told).encode()

    def _route(self, request: Request) -> dict[str, Any]:
        if self.kind != "other" and request.path.startswith(self.prefix):
            path = request.path[len(self.prefix) :]
            for method, pattern, handle in self._routes:
                match = re.fullmatch(pattern, path)
                if method == request.method and match and (self.kind != "v1" or "v1beta1" in path):
                    return handle(request, *match.groups())
        raise Refusal(404, 5, "Not Found")

    def _health(self, request: Request) -> dict[str, Any]:
        if self.kind == "pages":
            return {"apiServerReady": True, "apiServerMultiUser": self.many_users, "multi_user": self.many_users}
        return {"multi_user": self.many_users}

    def _old_health(self, request: Request) -> dict[str, Any]:
        if not self.version:
            raise Refusal(404, 5, "Not Found")
        if self.kind == "pages":
            return {"apiServerTagName": self.version, "frontendTagName": self.version, "apiServerReady": True}
        return {"commit_sha": "0" * 40, "tag_name": self.version, "multi_user": self.many_users}

    def _namespace(self, given: str | None) -> str:
        """The namespace that counts; one user's server looks at none."""
        if not self.many_users:
            return ""
        if not given:
            raise Refusal(400, 3, "Invalid input error: a namespace is needed in multi-user mode")
        if given not in self.namespaces:
            raise Refusal(403, 7, f"User 'ann' is not authorized with reason: (request: namespace:{given!r})")
        return given

    def _page(self, key: str, items: list[dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
        """A page of a list, filtered by name where that is asked for."""
        for predicate in json.loads(query.get("filter") or "{}").get("predicates", []):
            if predicate["operation"] not in (1, "EQUALS") or predicate["key"] != "display_name":
                raise Refusal(400, 3, f"cannot filter by {predicate}")
            items = [one for one in items if one["display_name"] == predicate["stringValue"]]
        start, size = int(query.get("page_token") or 0), int(query.get("page_size") or 20)
        page: dict[str, Any] = {key: items[start : start + size], "total_size": len(items)}
        if start + size < len(items):
            page["next_page_token"] = str(start + size)
        return page

    def _get(self, kind: dict[str, dict[str, Any]], key: str) -> dict[str, Any]:
        if key not in kind:
            raise Refusal(404, 5, f"{key} not found")
        return kind[key]

    def add_pipeline(self, name: str, description: str = "", namespace: str = "") -> str:
        """A pipeline that is there already; its id."""
        pipeline_id = str(uuid.uuid4())
        self.state.pipelines[pipeline_id] = {
            "pipeline_id": pipeline_id,
            "display_name": name,
            "description": description,
            "namespace": namespace,
            "created_at": _CREATED,
        }
        return pipeline_id

    def _list_pipelines(self, request: Request) -> dict[str, Any]:
        namespace = self._namespace(request.query.get("namespace"))
        pipelines = [one for one in self.state.pipelines.values() if one["namespace"] == namespace]
        return self._page("pipelines", pipelines, request.query)

    def _create_pipeline(self, request: Request) -> dict[str, Any]:
        namespace = self._namespace(request.body.get("namespace"))
        name = request.body.get("display_name") or request.body.get("name")
        if not name:
            raise Refusal(400, 3, "name is required")
        if any((one["display_name"], one["namespace"]) == (name, namespace) for one in self.state.pipelines.values()):
            raise Refusal(409, 6, f"The pipeline name {name} already exists")
        pipeline_id = self.add_pipeline(name, request.body.get("description", ""), namespace)
        return self.state.pipelines[pipeline_id]

    def _delete_pipeline(self, request: Request, pipeline_id: str) -> dict[str, Any]:
        self._get(self.state.pipelines, pipeline_id)
        if any(one["pipeline_id"] == pipeline_id for one in self.state.versions.values()):
            raise Refusal(400, 3, f"Failed to delete pipeline {pipeline_id} as it has existing pipeline versions")
        del self.state.pipelines[pipeline_id]
        return {}

    def _list_versions(self, request: Request, pipeline_id: str) -> dict[str, Any]:
        self._get(self.state.pipelines, pipeline_id)
        versions = [one for one in self.state.versions.values() if one["pipeline_id"] == pipeline_id]
        return self._page("pipeline_versions", versions, request.query)

    def _upload_version(self, request: Request) -> dict[str, Any]:
        pipeline_id, name = request.query["pipelineid"], request.query["name"]
        self._get(self.state.pipelines, pipeline_id)
        file = request.body["uploadfile"]
        if not file["filename"].endswith((".yaml", ".yml")):
            raise Refusal(400, 3, "Unexpected pipeline file format")
        if any(
            (one["pipeline_id"], one["display_name"]) == (pipeline_id, name) for one in self.state.versions.values()
        ):
            raise Refusal(409, 6, "Failed to create a pipeline version")
        version_id = str(uuid.uuid4())
        self.state.versions[version_id] = {
            "pipeline_id": pipeline_id,
            "pipeline_version_id": version_id,
            "display_name": name,
            "description": request.query.get("description", ""),
            "created_at": _CREATED,
        }
        return self.state.versions[version_id]

    def _delete_version(self, request: Request, pipeline_id: str, version_id: str) -> dict[str, Any]:
        self._get(self.state.versions, version_id)
        del self.state.versions[version_id]
        return {}

    def _list_experiments(self, request: Request) -> dict[str, Any]:
        namespace = self._namespace(request.query.get("namespace"))
        experiments = [one for one in self.state.experiments.values() if one["namespace"] == namespace]
        return self._page("experiments", experiments, request.query)

    def _create_experiment(self, request: Request) -> dict[str, Any]:
        namespace = self._namespace(request.body.get("namespace"))
        experiment_id = str(uuid.uuid4())
        self.state.experiments[experiment_id] = {
            "experiment_id": experiment_id,
            "display_name": request.body["display_name"],
            "namespace": namespace,
            "created_at": _CREATED,
        }
        return self.state.experiments[experiment_id]

    def _delete_experiment(self, request: Request, experiment_id: str) -> dict[str, Any]:
        self._get(self.state.experiments, experiment_id)
        del self.state.experiments[experiment_id]
        return {}

    def _require_source(self, body: dict[str, Any]) -> None:
        self._get(self.state.experiments, body["experiment_id"])
        version = self._get(self.state.versions, body["pipeline_version_reference"]["pipeline_version_id"])
        if version["pipeline_id"] != body["pipeline_version_reference"]["pipeline_id"]:
            raise Refusal(400, 3, "the version is another pipeline's")

    def _list_runs(self, request: Request) -> dict[str, Any]:
        wanted = request.query.get("experiment_id")
        runs = [one for one in self.state.runs.values() if wanted in (None, one["experiment_id"])]
        return self._page("runs", list(reversed(runs)), request.query)

    def add_run(self, body: dict[str, Any]) -> dict[str, Any]:
        """A run that is there already."""
        run_id = str(uuid.uuid4())
        self.state.runs[run_id] = {"run_id": run_id, "state": "PENDING", "created_at": _CREATED, **body}
        return self.state.runs[run_id]

    def _create_run(self, request: Request) -> dict[str, Any]:
        self._require_source(request.body)
        return self.add_run(request.body)

    def _get_run(self, request: Request, run_id: str) -> dict[str, Any]:
        run = self._get(self.state.runs, run_id)
        frames = self.frames.get(run_id, [])
        shown = {**run, **(frames.pop(0) if len(frames) > 1 else frames[0] if frames else {})}
        if self.native_tasks:
            told = shown.pop("run_details", {}).get("task_details", [])
            # Drivers and pods are no tasks of their own; times that have not come yet are left out.
            self._tasks_of_runs[run_id] = [
                {
                    "task_id": str(uuid.uuid4()),
                    "name": one["display_name"],
                    "type": "RUNTIME",
                    **{key: value for key, value in one.items() if value != _LONG_AGO and key != "display_name"},
                }
                for one in told
                if not one["display_name"].endswith("-driver") and one["display_name"] not in ("root", "executor")
            ]
        return shown

    def _list_tasks(self, request: Request, run_id: str) -> dict[str, Any]:
        if not self.native_tasks:
            raise Refusal(404, 5, "Not Found")
        return self._page("tasks", self._tasks_of_runs.get(run_id, []), request.query)

    def _delete_run(self, request: Request, run_id: str) -> dict[str, Any]:
        self._get(self.state.runs, run_id)
        del self.state.runs[run_id]
        return {}

    def _list_recurring_runs(self, request: Request) -> dict[str, Any]:
        self._namespace(request.query.get("namespace"))
        return self._page("recurringRuns", list(self.state.recurring_runs.values()), request.query)

    def add_recurring_run(self, body: dict[str, Any]) -> str:
        """A recurring run that is there already; its id."""
        recurring_run_id = str(uuid.uuid4())
        # The server answers with its own defaults, and with a 64-bit number as a string.
        self.state.recurring_runs[recurring_run_id] = {
            "recurring_run_id": recurring_run_id,
            "status": "ENABLED" if body.get("mode") == "ENABLE" else "DISABLED",
            "created_at": _CREATED,
            "service_account": "pipeline-runner",
            **body,
            "max_concurrency": str(body.get("max_concurrency", 0)),
        }
        return recurring_run_id

    def _create_recurring_run(self, request: Request) -> dict[str, Any]:
        body = request.body
        self._require_source(body)
        fields = len(body["trigger"]["cron_schedule"]["cron"].split())
        if not 5 <= fields <= 6:
            raise Refusal(400, 3, f"Schedule cron is not a supported format: Expected 5 to 6 fields, found {fields}")
        if not 1 <= int(body["max_concurrency"]) <= 10:
            raise Refusal(400, 3, "Max concurrency of a recurring run must be at least 1 and at most 10")
        return self.state.recurring_runs[self.add_recurring_run(body)]

    def _get_recurring_run(self, request: Request, recurring_run_id: str) -> dict[str, Any]:
        return self._get(self.state.recurring_runs, recurring_run_id)

    def _delete_recurring_run(self, request: Request, recurring_run_id: str) -> dict[str, Any]:
        self._get(self.state.recurring_runs, recurring_run_id)
        policy = request.query.get("propagation_policy", "DELETE_PROPAGATION_POLICY_UNSPECIFIED")
        if policy not in ("DELETE_PROPAGATION_POLICY_UNSPECIFIED", "FOREGROUND", "BACKGROUND", "ORPHAN"):
            raise Refusal(400, 3, f"{policy} is no propagation policy")
        if policy != "ORPHAN":  # Kubernetes' garbage collection (kubeflow/pipelines#12573)
            owned = [key for key, run in self.state.runs.items() if run.get("recurring_run_id") == recurring_run_id]
            for key in owned:
                del self.state.runs[key]
        del self.state.recurring_runs[recurring_run_id]
        return {}


def task(name: str, state: str, seconds: int | None = None, error: str = "") -> dict[str, Any]:
    """A task of a run as the server shows it: without `seconds` it is not finished; a pending one has not begun."""
    minutes, rest = divmod(seconds or 0, 60)
    told: dict[str, Any] = {
        "display_name": name,
        "state": state,
        "start_time": _LONG_AGO if state == "PENDING" else "2026-01-02T04:00:00Z",
        "end_time": _LONG_AGO if seconds is None else f"2026-01-02T04:{minutes:02d}:{rest:02d}Z",
    }
    return told | ({"error": {"code": 2, "message": error}} if error else {})
