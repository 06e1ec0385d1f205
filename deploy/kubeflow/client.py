"""Submits the compiled pipeline to Kubeflow Pipelines 2.x, follows its runs, and keeps its schedules.

Everything goes through the `kfp` SDK's client, of 2.5 and newer; it is imported when a cluster is contacted, not
before. A user's mistake is found before that: `package_file`, `timetable` and `image` know nothing of a cluster.

Nothing half-created: what a call makes on the server is taken away again by that call if it cannot be finished. KFP has
no transactions, so an answer that is lost (time-out, 500) may belong to something that was made: it is looked up.

What is said here about the server was read in the source of kubeflow/pipelines (backend/src/apiserver and
backend/src/crd, versions 2.5 to 2.17) and of its generated clients (kfp-server-api 2.0.5 and 2.17.3).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from deploy.kubeflow.package_file import Package
from deploy.timetable import Timetable
from schemas.errors import BadInput

# The description of a pipeline or a recurring run begins with this where it is ours.
MARK = "made by warmstart"
DEFAULT_NAMESPACE = "kubeflow"
# Older ones leave {{$.pipeline_job_uuid}}, which every task gets as its run id, as it is.
MINIMUM_BACKEND = (2, 5, 0)

SUCCEEDED = "SUCCEEDED"
_FINAL_STATES = frozenset({SUCCEEDED, "FAILED", "CANCELED", "SKIPPED", "ERROR"})

_CONNECT_SECONDS, _FIRST_ANSWER_SECONDS, _ANSWER_SECONDS = 5.0, 8.0, 60.0
_PAGE = 100
# Files with certificates of one's own; requests, which asks the registry, knows the first.
_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")


# ---- the cluster ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Endpoint:
    """Where Kubeflow Pipelines is.

    host: its address, or None: through the service in the cluster that the kubeconfig names, or that this pod is in.
    namespace: the user's own, where Kubeflow has many users; where KFP is installed, on the way through a kubeconfig.
    """

    host: str | None
    namespace: str
    token: str | None = dataclasses.field(default=None, repr=False)

    def shown(self) -> str:
        """For messages: without anything secret."""
        if self.host is None:
            return f"the cluster's service ml-pipeline in the namespace {self.namespace!r}"
        parts = urlsplit(self.host)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def find_endpoint(host: str | None, namespace: str | None, token: str | None) -> Endpoint:
    """What was given; then KFP_ENDPOINT, KFP_NAMESPACE and KFP_TOKEN; then the kubeconfig.

    Raises:
      BadInput: address or namespace cannot be one, or a token was given without an address.
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
        raise BadInput("a token was given without an endpoint to send it to; give the address too (KFP_ENDPOINT)")
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", namespace):
        raise BadInput(
            f"{namespace!r} is no name of a Kubernetes namespace; expected lower-case letters, digits and hyphens"
        )
    return Endpoint(host, namespace, token)


def _address(host: str) -> str:
    """The address without what a browser adds to it; without a scheme: http on this machine, else https."""
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
            f"{host!r} is no address; expected one such as http://localhost:8080 or https://kubeflow.example"
        )
    return address.rstrip("/")


class _ApiError(Exception):
    """An answer that is no success, or none. status: of HTTP; 0: no answer."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status, self.message = status, message
        self.asked = ""

    @property
    def may_be_done(self) -> bool:
        """Whether the server may have done what it was asked for all the same."""
        return self.status == 0 or self.status >= 500


@dataclass(frozen=True)
class Connection:
    """A server that answered. namespace: to ask for; empty where KFP has one user. version: `2.5.0`; empty: it does
    not say.
    """

    endpoint: Endpoint
    namespace: str
    version: str
    client: Any = dataclasses.field(repr=False)

    def run_url(self, run_id: str) -> str:
        """Address of a run in Kubeflow's own pages; `ui_hint` says what it needs."""
        place = os.environ.get("KF_PIPELINES_UI_ENDPOINT") or self.endpoint.host or "http://localhost:8080"
        return f"{_address(place)}/#/runs/details/{run_id}"

    def ui_hint(self) -> str:
        """What to do before `run_url` can be opened; mostly nothing."""
        if self.endpoint.host or os.environ.get("KF_PIPELINES_UI_ENDPOINT"):
            return ""
        return f"kubectl port-forward -n {self.endpoint.namespace} svc/ml-pipeline-ui 8080:80"

    def ask(self, what: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """A call of the SDK's client, with its printing, warnings and logging kept off the terminal.

        Raises:
          _ApiError: the server did not do it; `asked` is `what`.
        """
        try:
            with _quiet():
                return call(*arguments, **options)
        except _ApiError as error:
            error.asked = what
            raise

    def refusal(self, error: _ApiError) -> str:
        """A sentence about what the server did not do."""
        place = f"Kubeflow Pipelines at {self.endpoint.shown()}"
        if error.status == 0:
            return f"{place} gave no answer when asked to {error.asked} ({error.message})"
        if error.status == 401:
            return f"{place} refused the token when asked to {error.asked}; give a valid one (KFP_TOKEN)"
        return f"{place} answered {error.status} when asked to {error.asked}: {error.message}"


def connect(endpoint: Endpoint) -> Connection:
    """Contacts the server, and sees that it is one that can run the pipeline.

    A dead address is given up after five seconds; the SDK alone would ask four to five times, without a limit. The
    version is read from `tag_name` of v1beta1's health (the API server) or `apiServerTagName` (the same address at the
    server of Kubeflow's pages, which mostly is what is reached); v2beta1's health has none. A server that tells none is
    taken.

    Raises:
      BadInput: unreachable, token refused, namespace unknown, not Kubeflow Pipelines 2.x, or older than 2.5.0.
    """
    client = _client(endpoint)
    connection = Connection(endpoint, "", "", client)
    place = endpoint.shown()
    try:
        health = connection.ask("say whether it is well", _health, client, "v2beta1")
    except _ApiError as error:
        raise BadInput(_no_health(connection, error)) from None
    told = dict(health)
    with contextlib.suppress(_ApiError):  # newer servers may have no v1beta1
        told |= connection.ask("say its version", _health, client, "v1beta1")
    version = str(told.get("tag_name") or told.get("apiServerTagName") or "")
    numbers = re.match(r"v?(\d+)\.(\d+)\.(\d+)", version)
    if numbers and tuple(map(int, numbers.groups())) < MINIMUM_BACKEND:
        raise BadInput(
            f"Kubeflow Pipelines at {place} is version {version}; the pipeline needs 2.5.0 or newer, since older ones "
            "do not tell a task which run it belongs to"
        )
    many_users = bool(told.get("multi_user") or told.get("apiServerMultiUser"))
    connection = dataclasses.replace(
        connection, namespace=endpoint.namespace if many_users else "", version=version if numbers else ""
    )
    client.user_namespace = connection.namespace
    try:
        connection.ask("list the experiments", client.list_experiments, page_size=1, namespace=connection.namespace)
    except _ApiError as error:
        if error.status == 403 and many_users:
            raise BadInput(
                f"Kubeflow Pipelines at {place} has no namespace {endpoint.namespace!r} that you may use; give your "
                "own (KFP_NAMESPACE)"
            ) from None
        refused = error.status in (401, 403)
        raise BadInput(_token_refused(endpoint) if refused else connection.refusal(error)) from None
    return connection


def _client(endpoint: Endpoint) -> Any:
    """The SDK's client, with time limits, not connected yet."""
    with _quiet():
        try:
            import kfp
            import kfp_server_api
        except ImportError:
            raise BadInput("the package kfp is not installed; install warmstart[kubeflow]") from None

        class Client(kfp.Client):
            """Two of the SDK's habits changed: asking for health without a limit while it is made, and taking the
            namespace of a file in the home folder.
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
        raise BadInput("no endpoint was given and no kubeconfig was found; give an address (KFP_ENDPOINT)")
    renew, address = settings.refresh_api_key_hook, settings.host
    if renew is not None:

        def renew_token_only(configuration: Any) -> None:
            # The Kubernetes client's hook, called for every request, sets the address back to the cluster's own, and
            # itself as the hook.
            renew(configuration)
            configuration.host, configuration.refresh_api_key_hook = address, renew_token_only

        settings.refresh_api_key_hook = renew_token_only
    _limit(api.rest_client.pool_manager)
    return client


def _limit(pool: Any) -> None:
    """Sets time limits, no retries and no redirects, and makes every answer but success an `_ApiError`.

    All of the SDK's requests go through this one method of urllib3. The SDK's own exceptions differ by what went wrong,
    and it takes a page of HTML for an empty answer.
    """
    import urllib3

    ask = pool.request

    def request(method: str, url: str, **options: Any) -> Any:
        options["timeout"] = options.get("timeout") or urllib3.Timeout(connect=_CONNECT_SECONDS, read=_ANSWER_SECONDS)
        try:
            answer = ask(method, url, retries=urllib3.Retry(total=0), redirect=False, **options)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _ApiError(0, _reason(error)) from None
        body = answer.data.decode("utf-8", "replace").strip()
        if answer.status >= 400:
            raise _ApiError(answer.status, _told(body) or answer.reason or "no reason")
        if answer.status >= 300 or not _is_json(body):
            raise _ApiError(302, "a web page, not the API")
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
        return "its TLS certificate was not accepted; SSL_CERT_FILE may name a file with yours"
    if isinstance(cause, urllib3.exceptions.ReadTimeoutError):
        return "connected, but no answer in time"
    if isinstance(cause, urllib3.exceptions.ConnectTimeoutError):
        return f"no connection within {_CONNECT_SECONDS:.0f} s"
    return "the connection broke off"


def _is_json(body: str) -> bool:
    try:
        json.loads(body or "{}")
    except ValueError:
        return False
    return True


def _told(body: str) -> str:
    """The message in an answer's body: of gRPC's gateway, of the upload handler, of Kubernetes, or plain text."""
    if body.startswith("<"):
        return ""
    with contextlib.suppress(ValueError, AttributeError):
        content = json.loads(body)
        body = str(content.get("message") or content.get("error_message") or content.get("error") or "")
    line = body.partition("\n")[0].strip()
    return line if len(line) <= 300 else line[:299] + "…"


def _health(client: Any, api_version: str) -> dict[str, Any]:
    """What `/apis/<version>/healthz` says, as it is: the SDK's model drops what it does not know."""
    answer = client._healthz_api.api_client.call_api(
        f"/apis/{api_version}/healthz",
        "GET",
        header_params={"Accept": "application/json"},
        auth_settings=["Bearer"],
        response_type="object",
        _return_http_data_only=True,
        _request_timeout=(_CONNECT_SECONDS, _FIRST_ANSWER_SECONDS),
    )
    if not isinstance(answer, dict):
        raise _ApiError(302, "something that is not the API's")
    return answer


def _no_health(connection: Connection, error: _ApiError) -> str:
    """A sentence about a server that does not say that it is well."""
    endpoint, place = connection.endpoint, connection.endpoint.shown()
    if error.status == 0:
        return f"{place} cannot be reached ({error.message}); start it, forward its port, or correct the address"
    if error.status in (401, 403):
        return _token_refused(endpoint)
    if error.status == 302:
        return (
            f"{place} answered with a web page, not with Kubeflow Pipelines' API; it may want a login: give a token "
            "(KFP_TOKEN), or the address of the API itself"
        )
    if error.status == 404:
        with contextlib.suppress(_ApiError):
            old = connection.ask("say its version", _health, connection.client, "v1beta1")
            version = str(old.get("tag_name") or old.get("apiServerTagName") or "1.x")
            return f"{place} is Kubeflow Pipelines {version}, without the API v2beta1; expected 2.5.0 or newer"
        if endpoint.host is None:
            return (
                f"the cluster has no Kubeflow Pipelines in the namespace {endpoint.namespace!r} ({error.message}); "
                "give the one that it is installed in (KFP_NAMESPACE)"
            )
    return f"{place} is no Kubeflow Pipelines 2.x: it answered {error.status} when asked whether it is well"


def _token_refused(endpoint: Endpoint) -> str:
    if endpoint.host is None:
        return f"the cluster refused the credentials of the kubeconfig at {endpoint.shown()}; renew them"
    if endpoint.token is None:
        return f"Kubeflow Pipelines at {endpoint.shown()} wants a token; give one (KFP_TOKEN)"
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


# ---- all or nothing -------------------------------------------------------------------------------------------------


class _Made:
    """What one call made on the server, to be taken away again if the call cannot be finished."""

    def __init__(self, connection: Connection):
        self._connection = connection
        self._made: list[tuple[str, Callable[[], Any]]] = []
        self._uncertain: list[str] = []

    def make(self, what: str, create: Callable[[], Any], find: Callable[[], Any], delete: Callable[[Any], Any]) -> Any:
        """Makes one thing.

        Args:
          what: `the pipeline 'a'`.
          create: makes it.
          find: looks for one that was made though the answer was lost; None: there is none.
          delete: takes it away.
        """
        try:
            made = self._connection.ask(f"create {what}", create)
        except _ApiError as error:
            if error.may_be_done:
                try:
                    lost = self._connection.ask(f"look for {what}", find)
                except _ApiError:
                    self._uncertain.append(what)
                else:
                    if lost is not None:
                        self._made.append((what, lambda: delete(lost)))
            raise
        self._made.append((what, lambda: delete(made)))
        return made

    def take_away(self) -> str:
        """Takes everything away, the last first; the end of a sentence about it."""
        left = []
        for what, delete in reversed(self._made):
            try:
                self._connection.ask(f"delete {what}", delete)
            except _ApiError as error:
                if error.status != 404:
                    left.append(what)
        end = "" if not self._made else "; what it had made was taken away again"
        if left:
            end = f"; {' and '.join(left)} could not be taken away again: delete by hand"
        if self._uncertain:
            end += f"; see whether {' and '.join(self._uncertain)} was made all the same"
        return end


@contextlib.contextmanager
def _all_or_nothing(connection: Connection) -> Iterator[_Made]:
    """Takes away what was made if anything fails, an interruption by the user too."""
    made = _Made(connection)
    try:
        yield made
    except _ApiError as error:
        raise BadInput(connection.refusal(error) + made.take_away()) from None
    except BadInput as error:
        raise BadInput(f"{error}{made.take_away()}") from None
    except BaseException:
        made.take_away()
        raise


def _named(name: str) -> str:
    """A filter for things with a name, as the server takes it (backend/api/v2beta1/filter.proto)."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def _generated(client: Any, service: str, call: str) -> Callable[..., Any]:
    """A call of the generated client that the SDK's own client has no method for.

    It is called `create_pipeline` in kfp-server-api 2.0.5 and `pipeline_service_create_pipeline` in 2.17.3.
    """
    calls = getattr(client, f"{service}s")
    return getattr(calls, f"{service}_service_{call}", None) or getattr(calls, call)


def _pipeline(connection: Connection, name: str) -> Any | None:
    """Our pipeline of that name, or None: there is none.

    Raises:
      BadInput: the name is taken.
    """
    client = connection.client
    answer = connection.ask(
        "list the pipelines",
        client.list_pipelines,
        page_size=_PAGE,
        filter=_named(name),
        namespace=connection.namespace,
    )
    found = [pipeline for pipeline in answer.pipelines or () if pipeline.display_name == name]
    if any(not (pipeline.description or "").startswith(MARK) for pipeline in found) or len(found) > 1:
        raise BadInput(
            f"the name {name!r} is taken by another pipeline at {connection.endpoint.shown()}, one that warmstart did "
            "not make; choose another name"
        )
    return found[0] if found else None


def _version(
    connection: Connection, package: Package, pipeline_name: str, pipeline: Any | None, made: _Made
) -> tuple[str, str, bool]:
    """Ids of the pipeline, which is made where it is None, and of the version with the package's content; whether that
    is new.
    """
    client = connection.client
    if pipeline is None:
        import kfp_server_api

        body = kfp_server_api.V2beta1Pipeline(
            display_name=pipeline_name,
            description=f"{MARK}: each version is named by its content",
            namespace=connection.namespace or None,
        )
        pipeline = made.make(
            f"the pipeline {pipeline_name!r}",
            lambda: _generated(client, "pipeline", "create_pipeline")(body),
            lambda: _pipeline(connection, pipeline_name),
            lambda it: client.delete_pipeline(it.pipeline_id),
        )
    pipeline_id, version_name = pipeline.pipeline_id, package.version_name(pipeline_name)

    def find() -> Any | None:
        answer = client.list_pipeline_versions(pipeline_id, page_size=_PAGE, filter=_named(version_name))
        return next((one for one in answer.pipeline_versions or () if one.display_name == version_name), None)

    version = connection.ask("list the pipeline's versions", find)
    if version is not None:
        return pipeline_id, version.pipeline_version_id, False
    version = made.make(
        f"the version {version_name!r}",
        lambda: client.upload_pipeline_version(
            str(package.path), version_name, pipeline_id=pipeline_id, description=f"{MARK}: sha256 {package.digest}"
        ),
        find,
        lambda it: client.delete_pipeline_version(pipeline_id, it.pipeline_version_id),
    )
    return pipeline_id, version.pipeline_version_id, True


def _find_experiment(connection: Connection, name: str) -> Any | None:
    answer = connection.client.list_experiments(page_size=_PAGE, filter=_named(name), namespace=connection.namespace)
    return next((one for one in answer.experiments or () if one.display_name == name), None)


def _experiment(connection: Connection, name: str, made: _Made) -> str:
    """Id of the experiment of that name, which is made where there is none."""
    client = connection.client
    experiment = connection.ask("list the experiments", _find_experiment, connection, name)
    if experiment is None:
        experiment = made.make(
            f"the experiment {name!r}",
            lambda: client.create_experiment(name, namespace=connection.namespace or None),
            lambda: _find_experiment(connection, name),
            lambda it: client.delete_experiment(it.experiment_id),
        )
    return experiment.experiment_id


# ---- runs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Submitted:
    """A run that was started. new_version: False where the content was there already."""

    run_id: str
    run_url: str
    pipeline_id: str
    version_id: str
    new_version: bool


def submit(
    connection: Connection,
    package: Package,
    pipeline_name: str,
    experiment: str,
    run_name: str,
    service_account: str | None = None,
) -> Submitted:
    """Uploads the package, unless the pipeline has a version with its content, and starts a run.

    KFP's caching is off: the package says so for every task (`read_package`), and a run of a version has no say in it.

    Args:
      connection: from `connect`.
      package: from `read_package`, with the run's parameters.
      pipeline_name: of the pipeline in KFP; it is made where there is none.
      experiment: of that name, in which the run is shown; it is made where there is none.
      run_name: shown in Kubeflow's pages; need not be unique.
      service_account: of the run's pods; None: the cluster's default.

    Raises:
      BadInput: the name is taken by another pipeline, or the server did not do it; nothing is left behind then.
    """
    client = connection.client
    with _all_or_nothing(connection) as made:
        pipeline = _pipeline(connection, pipeline_name)
        pipeline_id, version_id, new_version = _version(connection, package, pipeline_name, pipeline, made)
        experiment_id = _experiment(connection, experiment, made)

        def run_ids() -> dict[str, Any]:
            answer = client.list_runs(
                experiment_id=experiment_id, page_size=_PAGE, sort_by="created_at desc", filter=_named(run_name)
            )
            return {run.run_id: run for run in answer.runs or ()}

        before = connection.ask("list the runs", run_ids)
        run = made.make(
            f"the run {run_name!r}",
            lambda: client.run_pipeline(
                experiment_id,
                run_name,
                params=dict(package.parameters),
                pipeline_id=pipeline_id,
                version_id=version_id,
                enable_caching=False,
                service_account=service_account,
            ),
            lambda: next((run for run_id, run in run_ids().items() if run_id not in before), None),
            lambda it: client.delete_run(it.run_id),
        )
    return Submitted(run.run_id, connection.run_url(run.run_id), pipeline_id, version_id, new_version)


@dataclass(frozen=True)
class TaskChange:
    """A task whose state changed. seconds: how long it took; None: it is not finished. error: of a failed one, where
    the server tells.
    """

    name: str
    state: str
    seconds: float | None
    error: str


@dataclass(frozen=True)
class Followed:
    """How a run stands. state: KFP's, such as SUCCEEDED or FAILED. failed: its failed tasks. error: of the run.
    stopped: the user stopped following; the run goes on.
    """

    state: str
    failed: tuple[TaskChange, ...]
    error: str
    stopped: bool = False


def follow(
    connection: Connection,
    run_id: str,
    on_change: Callable[[TaskChange], None],
    tasks: Mapping[str, str] | None = None,
    poll_seconds: float = 5.0,
    patience_seconds: float = 180.0,
) -> Followed:
    """Waits for a run's end and tells what changes; Ctrl-C stops the following, not the run.

    The server lists all of Argo's nodes by the names of their tasks: drivers, pods and the pipeline itself too. A task
    that is not finished has an end in 1970.

    Args:
      connection: from `connect`.
      run_id: of the run.
      on_change: called for every task that is new or whose state changed.
      tasks: names to tell of -> names to show (`Package.tasks`); None: tell of all that look like tasks.
      poll_seconds: between two questions.
      patience_seconds: for how long the server may be away.

    Raises:
      BadInput: the run is not there, the token was refused, or the server stayed away; the run goes on.
    """
    seen: dict[str, TaskChange] = {}
    state, away_since = "", 0.0
    try:
        while True:
            try:
                run = connection.ask("show the run", connection.client.get_run, run_id)
            except _ApiError as error:
                now = time.monotonic()
                away_since = away_since or now
                if not (error.may_be_done or error.status == 429) or now - away_since > patience_seconds:
                    goes_on = "" if error.status == 404 else f"; the run goes on: {connection.run_url(run_id)}"
                    raise BadInput(connection.refusal(error) + goes_on) from None
                time.sleep(poll_seconds)
                continue
            away_since = 0.0
            for change in _task_changes(run, tasks):
                if change.state and (change.name not in seen or seen[change.name].state != change.state):
                    on_change(change)
                seen[change.name] = change
            state = str(run.state or "")
            if state.upper() in _FINAL_STATES:
                return _followed(state, seen, _error(run))
            time.sleep(poll_seconds)
    except KeyboardInterrupt:
        return dataclasses.replace(_followed(state, seen, ""), stopped=True)


def _followed(state: str, seen: Mapping[str, TaskChange], error: str) -> Followed:
    return Followed(state, tuple(change for change in seen.values() if change.state == "FAILED"), error)


def _task_changes(run: Any, tasks: Mapping[str, str] | None) -> Iterator[TaskChange]:
    """How the tasks to be told of stand, in the order they began."""
    details = list((run.run_details.task_details if run.run_details else None) or ())
    names = {detail.display_name for detail in details}
    shown_names = set((tasks or {}).values())
    details.sort(key=lambda detail: detail.start_time.timestamp() if detail.start_time else 0.0)
    for detail in details:
        name = detail.display_name or ""
        if tasks is not None:
            if name not in tasks and name not in shown_names:
                continue
            name = tasks.get(name, name)
        elif name == "root" or f"{name}-driver" not in names:
            continue
        started, ended = detail.start_time, detail.end_time
        finished = started is not None and ended is not None and ended >= started and ended.year > 1970
        seconds = (ended - started).total_seconds() if finished else None
        yield TaskChange(name, str(detail.state or ""), seconds, _error(detail))


def _error(told: Any) -> str:
    """The error of a run or a task: its own, or that of the last state it went through."""
    history = [state.error for state in reversed(told.state_history or ())]
    messages = [error.message for error in (told.error, *history) if error is not None and error.message]
    return _told(messages[0]) if messages else ""


# ---- schedules ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Schedule:
    """A recurring run that warmstart made. kfp_cron: six fields, seconds first, in the cluster's zone. described: the
    expression and time zone as they were given.
    """

    id: str
    name: str
    kfp_cron: str
    described: str
    enabled: bool
    pipeline_id: str
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class Scheduled:
    """What `schedule` did: `created`, `replaced` or `unchanged`."""

    action: str
    id: str
    pipeline_id: str
    version_id: str


def schedule(
    connection: Connection,
    package: Package,
    pipeline_name: str,
    name: str,
    when: Timetable,
    experiment: str,
    service_account: str | None = None,
) -> Scheduled:
    """Makes or replaces the schedule of that name: one run at a time, and none for times that were missed.

    KFP cannot change a recurring run. The new one is made first and the old one deleted then, so a failure leaves the
    old one in place. Names are not unique in KFP: several of ours become one.

    Values such as `[[ScheduledTime]]` are KFP's to fill in, at each run.

    Args:
      connection: from `connect`.
      package: from `read_package`, with the parameters of every run.
      pipeline_name: as in `submit`.
      name: of the schedule.
      when: from `timetable`.
      experiment: as in `submit`.
      service_account: of the runs' pods; None: the cluster's default.

    Raises:
      BadInput: a name is taken by another pipeline, a run of the old schedule is going on, or the server did not do it;
        the old schedule is in place then, and nothing new.
    """
    client = connection.client
    described = f"{MARK}: {when.cron} in {when.time_zone}"
    with _all_or_nothing(connection) as made:
        pipeline = _pipeline(connection, pipeline_name)
        old = _recurring_runs(connection, name)
        if any(pipeline is None or _pipeline_ids(one)[0] != pipeline.pipeline_id for one in old):
            raise BadInput(f"the name {name!r} is taken by a schedule of another pipeline; choose another name")
        pipeline_id, version_id, _ = _version(connection, package, pipeline_name, pipeline, made)
        experiment_id = _experiment(connection, experiment, made)

        def is_wanted(one: Any) -> bool:
            return (
                _cron(one) == when.kfp_cron
                and _pipeline_ids(one) == (pipeline_id, version_id)
                and dict(one.runtime_config.parameters or {} if one.runtime_config else {}) == dict(package.parameters)
                and one.description == described
                and one.experiment_id == experiment_id
                and _is_enabled(one)
                and int(one.max_concurrency or 0) == 1
                and bool(one.no_catchup)
                # The server fills in its default where none was given.
                and service_account in (None, one.service_account)
            )

        kept = next((one for one in old if is_wanted(one)), None)
        leaving = [one for one in old if one is not kept]
        for one in leaving:
            _require_idle(connection, one, name)
        if kept is None:
            known = {one.recurring_run_id for one in old}

            def find() -> Any | None:
                new = (one for one in _recurring_runs(connection, name) if one.recurring_run_id not in known)
                return next(new, None)

            kept = made.make(
                f"the schedule {name!r}",
                lambda: client.create_recurring_run(
                    experiment_id,
                    name,
                    description=described,
                    cron_expression=when.kfp_cron,
                    max_concurrency=1,
                    no_catchup=True,
                    params=dict(package.parameters),
                    pipeline_id=pipeline_id,
                    version_id=version_id,
                    enable_caching=False,
                    service_account=service_account,
                ),
                find,
                lambda it: client.delete_recurring_run(it.recurring_run_id),
            )
            action = "replaced" if leaving else "created"
        else:
            action = "replaced" if leaving else "unchanged"
        for one in leaving:
            _delete_recurring_run(connection, one, "delete the old schedule")
    return Scheduled(action, kept.recurring_run_id, pipeline_id, version_id)


def list_schedules(connection: Connection) -> list[Schedule]:
    """All schedules that warmstart made, by name.

    Raises:
      BadInput: the server does not tell.
    """
    try:
        found = _recurring_runs(connection, None)
    except _ApiError as error:
        raise BadInput(connection.refusal(error)) from None
    schedules = [
        Schedule(
            id=one.recurring_run_id,
            name=one.display_name,
            kfp_cron=_cron(one),
            described=one.description.removeprefix(f"{MARK}: "),
            enabled=_is_enabled(one),
            pipeline_id=_pipeline_ids(one)[0],
            parameters=dict(one.runtime_config.parameters or {} if one.runtime_config else {}),
        )
        for one in found
        if (one.description or "").startswith(MARK)
    ]
    return sorted(schedules, key=lambda one: (one.name, one.id))


def delete_schedule(connection: Connection, name: str) -> None:
    """Deletes the schedule of that name.

    Raises:
      BadInput: there is none, warmstart did not make it, a run of it is going on, or the server did not do it.
    """
    try:
        found = _recurring_runs(connection, name)
        if not found:
            known = sorted({one.display_name for one in _recurring_runs(connection, None)})
            raise BadInput(
                f"there is no schedule {name!r} at {connection.endpoint.shown()}; there is {', '.join(known) or 'none'}"
            )
        if any(not (one.description or "").startswith(MARK) for one in found):
            raise BadInput(f"the schedule {name!r} was not made by warmstart; delete it in Kubeflow's own pages")
        for one in found:
            _require_idle(connection, one, name)
        for one in found:
            _delete_recurring_run(connection, one, "delete the schedule")
    except _ApiError as error:
        raise BadInput(connection.refusal(error)) from None


def _recurring_runs(connection: Connection, name: str | None) -> list[Any]:
    """All recurring runs, or those of a name."""
    found: list[Any] = []
    token = ""
    while True:
        answer = connection.ask(
            "list the schedules",
            connection.client.list_recurring_runs,
            page_token=token,
            page_size=_PAGE,
            namespace=connection.namespace or None,
        )
        found += [one for one in answer.recurring_runs or () if name is None or one.display_name == name]
        token = answer.next_page_token or ""
        if not token:
            return found


def _require_idle(connection: Connection, one: Any, name: str) -> None:
    """Kubernetes deletes the runs that are going on together with their recurring run (kubeflow/pipelines#12573);
    newer servers can be told not to (`propagation_policy`), older ones cannot.

    Raises:
      BadInput: a run of it is going on.
    """
    answer = connection.ask(
        "list the schedule's runs",
        connection.client.list_runs,
        experiment_id=one.experiment_id,
        page_size=_PAGE,
        sort_by="created_at desc",
    )
    for run in answer.runs or ():
        if run.recurring_run_id == one.recurring_run_id and str(run.state or "").upper() not in _FINAL_STATES:
            raise BadInput(
                f"a run of the schedule {name!r} is going on, and would end with it: "
                f"{connection.run_url(run.run_id)}; wait for it, or terminate it first"
            )


def _delete_recurring_run(connection: Connection, one: Any, what: str) -> None:
    """Deletes it; an answer that was lost counts as done if it is gone."""
    recurring_run_id = one.recurring_run_id
    try:
        connection.ask(what, connection.client.delete_recurring_run, recurring_run_id)
    except _ApiError as error:
        if error.status == 404:
            return
        if error.may_be_done:
            try:
                connection.ask(what, connection.client.get_recurring_run, recurring_run_id)
            except _ApiError as second:
                if second.status == 404:
                    return
        raise


def _pipeline_ids(one: Any) -> tuple[str, str]:
    """Ids of a recurring run's pipeline and version; empty where it carries its pipeline itself."""
    reference = one.pipeline_version_reference
    if reference is None:
        return "", ""
    return reference.pipeline_id or "", reference.pipeline_version_id or ""


def _cron(one: Any) -> str:
    cron = one.trigger.cron_schedule if one.trigger else None
    return (cron.cron or "") if cron else ""


def _is_enabled(one: Any) -> bool:
    """`mode` is what was asked for, `status` how it is; not every server tells both."""
    return one.mode == "ENABLE" if one.mode in ("ENABLE", "DISABLE") else one.status == "ENABLED"
