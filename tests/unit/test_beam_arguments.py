"""Arguments for Apache Beam: what each step gets, and the mistakes that are seen before the first job."""

from __future__ import annotations

import ast
import importlib.util
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import beam_arguments
from deploy.beam_arguments import BEAM_STEPS, LOCAL, Given, complete, of_steps, refuse_wrong
from pipeline.config import load_config
from pipeline.config.release import RuntimeConfig
from schemas.errors import BadInput

EXTERNAL = ["--environment_type=EXTERNAL", "--environment_config=localhost:50000"]
FLINK = ["--runner=FlinkRunner", "--flink_master=flink:8081"]
SHIPPED = "--sdk_container_image=warmstart"


def refusal(*arguments: str, connects: bool = False) -> str:
    with pytest.raises(BadInput) as error:
        refuse_wrong(RuntimeConfig(beam_pipeline_args=list(arguments)), connects)
    text = str(error.value)
    assert text.startswith("runtime.beam_pipeline_args ")
    assert "\n" not in text
    return text


# ---- what each step gets


def test_without_arguments_everything_runs_here():
    assert of_steps(RuntimeConfig()) == {step: list(LOCAL) for step in BEAM_STEPS}


def test_an_engine_gets_every_step_or_those_that_were_chosen():
    engine = [*FLINK, *EXTERNAL]
    every = of_steps(RuntimeConfig(beam_pipeline_args=engine))
    assert every == {step: [*engine, SHIPPED] for step in BEAM_STEPS}
    chosen = of_steps(RuntimeConfig(beam_pipeline_args=engine, beam_steps=["FeatureVectorGen"]))
    assert chosen == {step: every[step] if step == "FeatureVectorGen" else list(LOCAL) for step in BEAM_STEPS}


@pytest.mark.parametrize(
    ("arguments", "added"),
    [
        ([*FLINK, *EXTERNAL], [SHIPPED]),
        (["--runner=FnApiRunner"], [SHIPPED]),
        ([*FLINK, "--sdk_container_image=registry.example/warmstart:1"], []),
        ([*FLINK, "--requirements_file", "requirements.txt"], []),
        ([*FLINK, "--setup_file=./setup.py"], []),
        ([*FLINK, "--extra_package=warmstart.whl"], []),
    ],
)
def test_tfx_never_ships_itself(arguments, added):
    """TFX's own rule (dependency_utils.py) finds a dependency among the completed arguments."""
    assert complete(arguments) == [*arguments, *added]


def test_tfx_finds_what_was_added(monkeypatch):
    from tfx.utils import dependency_utils

    def build() -> str:
        raise AssertionError("a source distribution is built")

    monkeypatch.setattr(dependency_utils, "build_ephemeral_package", build)
    for given in ([], [*FLINK, *EXTERNAL], ["--runner=FnApiRunner", "--direct_num_workers=2"]):
        completed = complete(given)
        assert dependency_utils.make_beam_dependency_flags(completed) == completed
    with pytest.raises(AssertionError, match="a source distribution is built"):
        dependency_utils.make_beam_dependency_flags([*FLINK, *EXTERNAL])


def test_steps_without_an_engine_and_unknown_steps_are_refused():
    for overrides, told in (
        (["runtime.beam_steps=[Transform]"], "beam_steps needs beam_pipeline_args"),
        (["runtime.beam_pipeline_args=[--runner=a.B]", "runtime.beam_steps=[Transfrom]"], "runtime.beam_steps"),
    ):
        with pytest.raises(BadInput, match=told):
            load_config("cats_vs_dogs", overrides, ["/photos"])


# ---- mistakes


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--runner=FlinkRuner"], "names the runner 'FlinkRuner', which is unknown; did you mean 'FlinkRunner'?"),
        (["--runner", "Nothing"], "names the runner 'Nothing', which is unknown; expected one of"),
        (["--runner=apache_beam.runners.dask.dask_runner.DaskRunner"], "loses what steps write"),
        (["--runner=PortableRunner", *EXTERNAL], "without --job_endpoint=HOST:PORT"),
        (FLINK, "has no environment_type for FlinkRunner, so Beam would start its own image"),
        (["--runner=flink"], "has no environment_type for FlinkRunner"),
        ([*FLINK, "--environment_type=EXTERNAL"], "EXTERNAL without --environment_config; add it, with HOST:PORT"),
        ([*FLINK, "--environment_type=PROCESS"], "PROCESS without --environment_config; add it, with the command"),
        ([*FLINK, "--environment_type=external"], "has the environment_type 'external'; expected one of DOCKER"),
        ([*FLINK, "--environment_type=LOOPBACK"], "LOOPBACK with --flink_master=flink:8081: the workers there could"),
        (
            ["--runner=PortableRunner", "--job_endpoint=jobs.example:8099", "--environment_type=LOOPBACK"],
            "LOOPBACK with --job_endpoint=jobs.example:8099",
        ),
        (["--runner=SparkRunner", "--spark_master_url=spark://s:7077", "--environment_type=LOOPBACK"], "LOOPBACK with"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, told):
    assert told in refusal(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--direct_num_workers=2"],
        ["--runner=DirectRunner", "--direct_running_mode=multi_processing"],
        ["--runner=fnapi"],
        [*FLINK, *EXTERNAL],
        [*FLINK, "--sdk_container_image=registry.example/warmstart:1"],
        [*FLINK, "--environment_type=DOCKER", "--environment_config=registry.example/warmstart:1"],
        ["--runner=FlinkRunner", "--flink_master=[local]", "--environment_type=LOOPBACK"],
        ["--runner=FlinkRunner", "--flink_master=http://127.0.0.1:8081", "--environment_type=LOOPBACK"],
        ["--runner=PortableRunner", "--job_endpoint=embed", "--environment_type=LOOPBACK"],
        ["--runner=PortableRunner", "--job_endpoint=localhost:1", "--environment_type=beam:env:embedded_python:v1"],
        ["--runner=DataflowRunner", "--project=p", "--region=r"],
        ["--runner=a.runner.of.MyOwn"],
    ],
)
def test_what_may_run_is_not_refused(arguments):
    refuse_wrong(RuntimeConfig(beam_pipeline_args=arguments), connects=False)


def test_an_address_where_nothing_listens_is_one_sentence():
    with socket.socket() as listening, socket.socket() as silent:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        silent.bind(("127.0.0.1", 0))
        here, nowhere = (f"127.0.0.1:{one.getsockname()[1]}" for one in (listening, silent))
        portable = ["--runner=PortableRunner", "--environment_type=EXTERNAL"]
        refuse_wrong(
            RuntimeConfig(beam_pipeline_args=[*portable, f"--job_endpoint={here}", f"--environment_config={here}"])
        )
        text = refusal(*portable, f"--job_endpoint={here}", f"--environment_config={nowhere}", connects=True)
        assert f"--environment_config={nowhere}, where nothing listens (Connection refused)" in text
        flink = ["--runner=FlinkRunner", f"--flink_master=http://{nowhere}", f"--environment_config={here}"]
        assert "--flink_master=http" in refusal(*flink, "--environment_type=EXTERNAL", connects=True)


def test_a_pool_at_localhost_is_that_of_the_engine_where_the_engine_is_elsewhere(monkeypatch):
    """As in deploy/kubernetes/components/flink: a pool beside each task manager, which only that one can reach."""
    asked = []

    class Connection:
        def close(self):
            pass

    def connect(address, timeout):
        asked.append(address)
        return Connection()

    monkeypatch.setattr(beam_arguments.socket, "create_connection", connect)
    refuse_wrong(RuntimeConfig(beam_pipeline_args=[*FLINK, *EXTERNAL]))
    assert asked == [("flink", 8081)]
    refuse_wrong(RuntimeConfig(beam_pipeline_args=["--runner=FlinkRunner", "--flink_master=[local]", *EXTERNAL]))
    assert asked[1:] == [("localhost", 50000)]
    pool = ["--environment_type=EXTERNAL", "--environment_config=workers:50000"]
    refuse_wrong(RuntimeConfig(beam_pipeline_args=[*FLINK, *pool]))
    assert asked[2:] == [("flink", 8081), ("workers", 50000)]


def test_every_runner_that_beam_knows_is_known_here():
    """Read, and not imported: the list is Beam's own."""
    spec = importlib.util.find_spec("apache_beam")
    assert spec is not None
    assert spec.origin is not None
    options = Path(spec.origin).parent / "options" / "pipeline_options.py"
    for node in ast.walk(ast.parse(options.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ALL_KNOWN_RUNNERS":
            assert {path.rpartition(".")[2] for path in ast.literal_eval(node.value)} <= set(beam_arguments._KNOWN)
            return
    raise AssertionError("Beam keeps its runners elsewhere")


def test_arguments_are_read_as_beam_reads_them():
    given = Given.of(["--runner", "flink", "--streaming", "--parallelism=2", "--parallelism=4"])
    assert given.runner == "FlinkRunner"
    assert given.flags == {"runner": "flink", "streaming": "", "parallelism": "4"}
    assert Given.of([]).runner == "DirectRunner"


def test_nothing_slow_is_imported():
    code = "import sys, deploy.beam_arguments; print({'apache_beam', 'tfx', 'tensorflow'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
