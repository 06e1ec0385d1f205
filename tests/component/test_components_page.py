"""`docs/components.md` against the graph: every node is there, with its inputs and outputs."""

import re
from pathlib import Path

import pytest

from pipeline.config import load_config
from tests.report_runs import UPSTREAM

PAGE = Path(__file__).parents[2] / "docs" / "components.md"


def sections() -> dict[str, str]:
    """Heading -> what is below it."""
    parts = re.split(r"^## (\w+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def named(section: str, what: str) -> list[str]:
    """The names in backticks behind `- Inputs:` or `- Outputs:`."""
    [line] = re.findall(rf"^- {what}: (.*?)(?=^- )", section, re.MULTILINE | re.DOTALL)
    return re.findall(r"`(\w+)`", line)


@pytest.fixture(scope="module")
def nodes() -> dict:
    """Every node that there may be, by its id: of a graph with all that can be switched on."""
    from pipeline.graph import make_pipeline
    from pipeline.places import EarlierSpans, Places

    switched_on = ["data.window=2", "training.tuner.trials=1", "selection.ensemble=true"]
    photos = "/photos/span-{SPAN}"
    config = load_config("cats_vs_dogs", switched_on, [photos])
    pipeline = make_pipeline(
        config,
        Places("/artifacts", "/serving"),
        {"cats_vs_dogs": photos},
        {"oxford_iiit_pet": "/pets"},
        None,
        [],
        earlier=EarlierSpans(),
    )
    return {component.id: component for component in pipeline.components}


def test_every_node_is_named(nodes):
    assert sorted(set(nodes) - set(sections())) == []
    assert sorted(set(sections()) - set(nodes)) == []


def test_inputs_and_outputs_are_those_of_the_nodes(nodes):
    for name, node in nodes.items():
        section = sections()[name]
        assert sorted(named(section, "Inputs")) == sorted(node.inputs), name
        assert sorted(named(section, "Outputs")) == sorted(node.outputs), name


def test_each_section_says_what_fails_and_what_it_costs(nodes):
    for name, section in sections().items():
        for what in ("Inputs", "Outputs", "Fails", "Costs"):
            assert re.search(rf"^- {what}: \S", section, re.MULTILINE), (name, what)


def test_the_pages_of_the_tests_have_the_dependencies_of_the_graph():
    from deploy.assembly import compile_pipeline, upstream
    from pipeline.graph import make_pipeline
    from pipeline.places import Places

    config = load_config("cats_vs_dogs", [], ["/photos"])
    made = make_pipeline(config, Places("/artifacts", "/serving"), {"cats_vs_dogs": "/photos"}, {}, None, [])
    assert upstream(compile_pipeline(made)) == UPSTREAM


def test_the_steps_that_an_engine_may_run_are_those_on_beam(nodes):
    from tfx.dsl.components.base.executor_spec import BeamExecutorSpec

    from deploy.beam_arguments import BEAM_STEPS

    on_beam = {node_id for node_id, node in nodes.items() if isinstance(node.executor_spec, BeamExecutorSpec)}
    assert on_beam == set(BEAM_STEPS)
