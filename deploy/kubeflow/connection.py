"""The connection to a server of Kubeflow Pipelines 2.x: its address, its version, and its errors.

All calls go through the client of the `kfp` SDK, 2.5 or newer, which is imported only when a cluster is contacted.
Mistakes of the user are found before that: `package_file`, `timetable` and `image` need no cluster.

What this module, `pipelines`, `runs` and `schedules` assume about the server comes from the source of
kubeflow/pipelines (backend/src/apiserver and backend/src/crd, versions 2.5 to 2.17) and of its generated clients
(kfp-server-api 2.0.5 and 2.17.3).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from schemas.errors import BadInput

DEFAULT_NAMESPACE = "kubeflow"
# Older servers do not replace {{$.pipeline_job_uuid}}, which every task gets as its run id.
MINIMUM_BACKEND = (2, 5, 0)
PAGE_SIZE = 100  # of lists; servers accept no more

_CONNECT_SECONDS, _FIRST_ANSWER_SECONDS, _ANSWER_SECONDS = 5.0, 8.0, 60.0
# Files with your own certificates, as requests and OpenSSL look for them.
_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")


@dataclass(frozen=True)
class Endpoint:
    """Where Kubeflow Pipelines is."""

    host: str | None
    """Address; None: the service in the cluster of the kubeconfig, or of this pod."""
    namespace: str
    """The user's namespace if Kubeflow has several users; with a kubeconfig, the namespace where KFP is installed."""
    token: str | None = dataclasses.field(default=None, repr=False)

    def shown(self) -> str:
        """The endpoint as text for messages, without secrets."""
        if self.host is None:
            return f"the cluster's service ml-pipeline in the namespace {self.namespace!r}"
        parts = urlsplit(self.host)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def find_endpoint(host: str | None, namespace: str | None, token: str | None) -> Endpoint:
    """The endpoint from the arguments, or from KFP_ENDPOINT, KFP_NAMESPACE and KFP_TOKEN, or from the kubeconfig.

    Raises:
      BadInput: the address or the namespace is invalid, or a token was given without an address.
    """
    variables = os.environ.get
    # The second variable is the SDK's own.
    host = host or variables("KFP_ENDPOINT") or variables("KF_PIPELINES_ENDPOINT") or None
    namespace = namespace or variables("KFP_NAMESPACE") or DEFAULT_NAMESPACE
    token = token or variables("KFP_TOKEN") or None
    if host is not None:
        host = _address(host)
    elif token is not None:
        # The SDK would send it to http://localhost.
        raise BadInput("a token was given without an endpoint to send it to; give the endpoint too (KFP_ENDPOINT)")
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", namespace):
        raise BadInput(
            f"{namespace!r} is not a valid Kubernetes namespace; expected lower-case letters, digits and hyphens"
        )
    return Endpoint(host, namespace, token)


def _address(host: str) -> str:
    """The address without the fragment that a browser adds; without a scheme: http on this machine, otherwise https."""
    address = host.strip().partition("#")[0]
    if "://" not in address:
        local = re.match(r"(localhost|127\.0\.0\.1)(:|/|$)", address)
        address = f"{'http' if local else 'https'}://{address}"
    try:
        parts = urlsplit(address)
        named = re.fullmatch(r"[A-Za-z0-9._:-]+", parts.hostname or "") is not None
        valid = named and parts.scheme in ("http", "https") and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise BadInput(
            f"{host!r} is not an address; expected one such as http://localhost:8080 or https://kubeflow.example"
        )
    return address.rstrip("/")


class ApiError(Exception):
    """The server answered with an error, or not at all.

    Attributes:
      status: HTTP status; 0: there was no answer.
    """

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status, self.message = status, message
        self.asked = ""

    @property
    def may_be_done(self) -> bool:
        """Whether the server may have done what it was asked to do despite the error."""
        return self.status == 0 or self.status >= 500


@dataclass(frozen=True)
class Connection:
    """A server that answered."""

    endpoint: Endpoint
    namespace: str
    version: str
    """Version such as `2.5.0`; empty: the server does not say."""
    client: Any = dataclasses.field(repr=False)

    def run_url(self, run_id: str) -> str:
        """Address of a run in Kubeflow's web interface; see `ui_hint` for how to reach it."""
        place = os.environ.get("KF_PIPELINES_UI_ENDPOINT") or self.endpoint.host or "http://localhost:8080"
        return f"{_address(place)}/#/runs/details/{run_id}"

    def ui_hint(self) -> str:
        """The command to run before `run_url` can be opened; empty: none."""
        if self.endpoint.host or os.environ.get("KF_PIPELINES_UI_ENDPOINT"):
            return ""
        return f"kubectl port-forward -n {self.endpoint.namespace} svc/ml-pipeline-ui 8080:80"

    def ask(self, what: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Calls the SDK's client, and keeps what it prints, warns and logs off the terminal.

        Args:
          what: what the server is asked to do, such as `list the runs`.

        Raises:
          ApiError: the server did not do it; `asked` is `what`.
        """
        try:
            with _quiet():
                return call(*arguments, **options)
        except ApiError as error:
            error.asked = what
            raise

    def call(self, method: str, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The answer of `/apis/v2beta1/<path>` as JSON, for what the SDK's client lacks; use it within `ask`.

        Raises:
          ApiError: the server did not answer with a JSON object.
        """
        return _json_answer(self.client, method, f"/apis/v2beta1/{path}", query, _ANSWER_SECONDS)

    def refusal(self, error: ApiError) -> str:
        """A sentence on what the server failed to do."""
        place = f"Kubeflow Pipelines at {self.endpoint.shown()}"
        if error.status == 0:
            return f"{place} did not answer when asked to {error.asked} ({error.message})"
        if error.status == 401:
            return f"{place} refused the token when asked to {error.asked}; give a valid one (KFP_TOKEN)"
        return f"{place} answered {error.status} when asked to {error.asked}: {error.message}"


def connect(endpoint: Endpoint) -> Connection:
    """Contacts the server and checks that it can run the pipeline.

    A dead address is given up after five seconds; the SDK alone would try four or five times, without a limit. The
    version comes from v1beta1's health endpoint: `tag_name` at the API server, or `apiServerTagName` at the server of
    the web interface, which is usually the one that is reached. v2beta1's health endpoint has no version. A server
    that does not report its version is accepted.

    Raises:
      BadInput: the server is unreachable, refused the token, is not Kubeflow Pipelines 2.x or is older than 2.5.0, or
        the namespace is unknown.
    """
    client = _client(endpoint)
    connection = Connection(endpoint, "", "", client)
    place = endpoint.shown()
    try:
        health = connection.ask("report its health", _health, client, "v2beta1")
    except ApiError as error:
        raise BadInput(_no_health(connection, error)) from None
    told = dict(health)
    with contextlib.suppress(ApiError):  # newer servers may have no v1beta1
        told |= connection.ask("report its version", _health, client, "v1beta1")
    version = str(told.get("tag_name") or told.get("apiServerTagName") or "")
    numbers = re.match(r"v?(\d+)\.(\d+)\.(\d+)", version)
    if numbers and tuple(map(int, numbers.groups())) < MINIMUM_BACKEND:
        raise BadInput(
            f"Kubeflow Pipelines at {place} is version {version}; the pipeline needs 2.5.0 or newer, because older "
            "versions do not tell a task which run it belongs to"
        )
    many_users = bool(told.get("multi_user") or told.get("apiServerMultiUser"))
    connection = dataclasses.replace(
        connection, namespace=endpoint.namespace if many_users else "", version=version if numbers else ""
    )
    client.user_namespace = connection.namespace
    try:
        connection.ask("list the experiments", client.list_experiments, page_size=1, namespace=connection.namespace)
    except ApiError as error:
        if error.status == 403 and many_users:
            raise BadInput(
                f"Kubeflow Pipelines at {place} has no namespace {endpoint.namespace!r} that you may use; give the "
                "name of yours (KFP_NAMESPACE)"
            ) from None
        refused = error.status in (401, 403)
        raise BadInput(_token_refused(endpoint) if refused else connection.refusal(error)) from None
    return connection


def _client(endpoint: Endpoint) -> Any:
    """The SDK's client with time limits, not connected yet."""
    with _quiet():
        try:
            import kfp
            import kfp_server_api
        except ImportError:
            raise BadInput("the package kfp is not installed; install warmstart[kubeflow]") from None

        class Client(kfp.Client):
            """Does not ask for the server's health without a time limit when it is created, and does not read the
            namespace from a file in the home folder.
            """

            user_namespace = ""

            def get_kfp_healthz(self, sleep_duration: int = 5) -> Any:
                return kfp_server_api.V2beta1GetHealthzResponse(multi_user=False)

            def get_user_namespace(self) -> str:
                return self.user_namespace

        named = [os.environ.get(variable, "") for variable in _CA_VARIABLES]
        certificates = [file for file in named if os.path.isfile(file)]
        client = Client(
            host=endpoint.host,
            namespace=endpoint.namespace,
            existing_token=endpoint.token,
            ssl_ca_cert=certificates[0] if certificates else None,
        )
    api = client._healthz_api.api_client
    settings = api.configuration
    if endpoint.host is None and settings.host == kfp_server_api.Configuration().host:
        raise BadInput("no endpoint was given and no kubeconfig was found; give an endpoint (KFP_ENDPOINT)")
    renew, address = settings.refresh_api_key_hook, settings.host
    if renew is not None:

        def renew_token_only(configuration: Any) -> None:
            # The Kubernetes client calls this hook for every request, and it resets both the address to the cluster's
            # own and the hook to itself.
            renew(configuration)
            configuration.host, configuration.refresh_api_key_hook = address, renew_token_only

        settings.refresh_api_key_hook = renew_token_only
    _limit(api.rest_client.pool_manager)
    return client


def _limit(pool: Any) -> None:
    """Sets time limits, turns off retries and redirects, and raises `ApiError` unless a request succeeds.

    All requests of the SDK go through this one method of urllib3. The SDK's own exceptions differ from case to case,
    and it takes a page of HTML for an empty answer.
    """
    import urllib3

    ask = pool.request

    def request(method: str, url: str, **options: Any) -> Any:
        options["timeout"] = options.get("timeout") or urllib3.Timeout(connect=_CONNECT_SECONDS, read=_ANSWER_SECONDS)
        try:
            answer = ask(method, url, retries=urllib3.Retry(total=0), redirect=False, **options)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiError(0, _reason(error)) from None
        body = answer.data.decode("utf-8", "replace").strip()
        if answer.status >= 400:
            raise ApiError(answer.status, message_of(body) or answer.reason or "no message")
        if answer.status >= 300 or not _is_json(body):
            raise ApiError(302, "a web page, not the API")
        return answer

    pool.request = request


def _reason(error: Exception) -> str:
    """Why there was no answer, in a few words."""
    import urllib3

    cause = getattr(error, "reason", None) or error
    signs = {
        "refused": "connection refused",
        "not known": "no such host",
        "resolve": "no such host",
        "No address associated": "no such host",
        "unreachable": "network unreachable",
    }
    for sign, words in signs.items():
        if sign in str(cause):
            return words
    if isinstance(cause, urllib3.exceptions.SSLError):
        return "its TLS certificate is not trusted; name a file with your certificates in SSL_CERT_FILE"
    if isinstance(cause, urllib3.exceptions.ReadTimeoutError):
        return "connected, but no answer in time"
    if isinstance(cause, urllib3.exceptions.ConnectTimeoutError):
        return f"no connection within {_CONNECT_SECONDS:.0f} s"
    return "the connection was lost"


def _is_json(body: str) -> bool:
    try:
        json.loads(body or "{}")
    except ValueError:
        return False
    return True


def message_of(body: str) -> str:
    """The message in the body of an answer from gRPC's gateway, the upload handler or Kubernetes, or plain text."""
    if body.startswith("<"):
        return ""
    with contextlib.suppress(ValueError, AttributeError):
        content = json.loads(body)
        body = str(content.get("message") or content.get("error_message") or content.get("error") or "")
    line = body.partition("\n")[0].strip()
    return line if len(line) <= 300 else line[:299] + "…"


def _health(client: Any, api_version: str) -> dict[str, Any]:
    """The raw answer of `/apis/<version>/healthz`: the SDK's model drops unknown fields."""
    return _json_answer(client, "GET", f"/apis/{api_version}/healthz", None, _FIRST_ANSWER_SECONDS)


def _json_answer(
    client: Any, method: str, path: str, query: Mapping[str, str] | None, seconds: float
) -> dict[str, Any]:
    answer = client._healthz_api.api_client.call_api(
        path,
        method,
        query_params=list((query or {}).items()),
        header_params={"Accept": "application/json"},
        auth_settings=["Bearer"],
        response_type="object",
        _return_http_data_only=True,
        _request_timeout=(_CONNECT_SECONDS, seconds),
    )
    if not isinstance(answer, dict):
        raise ApiError(302, "not an answer of the API")
    return answer


def _no_health(connection: Connection, error: ApiError) -> str:
    endpoint, place = connection.endpoint, connection.endpoint.shown()
    if error.status == 0:
        return f"{place} cannot be reached ({error.message}); start it, forward its port or correct the address"
    if error.status in (401, 403):
        return _token_refused(endpoint)
    if error.status == 302:
        return (
            f"{place} answered with a web page instead of the API of Kubeflow Pipelines; if it needs a login, give a "
            "token (KFP_TOKEN) or the address of the API itself"
        )
    if error.status == 404:
        with contextlib.suppress(ApiError):
            old = connection.ask("report its version", _health, connection.client, "v1beta1")
            version = str(old.get("tag_name") or old.get("apiServerTagName") or "1.x")
            return f"{place} is Kubeflow Pipelines {version}, without the API v2beta1; expected 2.5.0 or newer"
        if endpoint.host is None:
            return (
                f"the cluster has no Kubeflow Pipelines in the namespace {endpoint.namespace!r} ({error.message}); "
                "give the namespace that it is installed in (KFP_NAMESPACE)"
            )
    return f"{place} is not Kubeflow Pipelines 2.x: it answered {error.status} when asked to report its health"


def _token_refused(endpoint: Endpoint) -> str:
    if endpoint.host is None:
        return f"the cluster refused the credentials of the kubeconfig at {endpoint.shown()}; renew them"
    if endpoint.token is None:
        return f"Kubeflow Pipelines at {endpoint.shown()} requires a token; give one (KFP_TOKEN)"
    return f"Kubeflow Pipelines at {endpoint.shown()} refused the token; give a valid one (KFP_TOKEN)"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what the SDK prints, warns and logs off the terminal."""
    disabled = logging.root.manager.disable
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(disabled)
