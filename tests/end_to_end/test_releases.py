"""Whole runs, one after another on one root: what is released, refused, forced, rolled back and warm-started."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.end_to_end.commands import run, served, states, warmstart

pytestmark = [pytest.mark.slow, pytest.mark.release]


@pytest.fixture(scope="module")
def worse(small) -> list[str]:
    """Settings of a run whose models are left about as they are drawn by lot."""
    settings = [
        "training.feature_extraction.epochs=1",
        "training.feature_extraction.learning_rate=1e-6",
        "training.fine_tuning.learning_rate=1e-7",
        "release.minimum_accuracy=0",
        "release.minimum_test_photos=0",
    ]
    return [*small, *(f"--set={setting}" for setting in settings)]


@pytest.fixture(scope="module")
def history_of_a_root(shaded, small, worse, tmp_path_factory) -> tuple[Path, list[tuple[int, str, dict]], list[int]]:
    """A root in which a model was pushed, a worse one was refused, and pushed by force; with the three runs, and the
    models that a resolver found after the second and the third.
    """
    root = tmp_path_factory.mktemp("history") / "root"
    runs = [run(shaded, root, *small), run(shaded, root, *worse)]
    resolved = [_resolved(root)]
    runs.append(run(shaded, root, *worse, "--force-push=the camera was replaced"))
    return root, runs, [*resolved, _resolved(root)]


def _resolved(root: Path) -> int:
    """The model that TFX's own strategy finds, with channels scoped as the README says."""
    from ml_metadata.metadata_store import metadata_store
    from tfx import v1 as tfx
    from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
    from tfx.orchestration import metadata

    artifacts = tfx.types.standard_artifacts
    resolver = tfx.dsl.Resolver(
        strategy_class=LatestBlessedModelStrategy,
        model=tfx.dsl.Channel(type=artifacts.Model, producer_component_id="ModelSelector", output_key="model"),
        model_blessing=tfx.dsl.Channel(
            type=artifacts.ModelBlessing, producer_component_id="ReleaseGate", output_key="blessing"
        ),
    )
    connection = metadata.sqlite_metadata_connection_config(str(root / "metadata.sqlite"))
    tfx.orchestration.LocalDagRunner().run(
        tfx.dsl.Pipeline(
            pipeline_name="cats_vs_dogs",
            pipeline_root=str(root / "artifacts"),
            components=[resolver],
            metadata_connection_config=connection,
        )
    )
    store = metadata_store.MetadataStore(connection)
    executions = store.get_executions_by_type("tfx.dsl.components.common.resolver.Resolver")
    events = store.get_events_by_execution_ids([max(execution.id for execution in executions)])
    return next(e.artifact_id for e in events if e.type == e.INTERNAL_OUTPUT and e.path.steps[0].key == "model")


def _selected(root: Path, summary: dict) -> int:
    """The model that ModelSelector handed on in a run."""
    from ml_metadata.metadata_store import metadata_store
    from tfx.orchestration import metadata

    from pipeline import run_record

    connection = metadata.sqlite_metadata_connection_config(str(root / "metadata.sqlite"))
    nodes = run_record.read_run(metadata_store.MetadataStore(connection), "cats_vs_dogs", summary["run_id"])
    return nodes["ModelSelector"].outputs["model"][0].id


def versions(root: Path) -> list[dict]:
    code, output = warmstart("history", f"--root={root}", "--json")
    assert code == 0, output
    return json.loads(output)["versions"]


def test_a_winner_worse_than_production_is_refused_and_pushed_by_force_only(history_of_a_root):
    root, [(_, _, good), (code, output, refused), (forced_code, forced_output, forced)], _ = history_of_a_root
    assert good["status"] == "pushed"
    assert code == 3, output
    assert refused["status"] == "not_pushed"
    compared = refused["release"]["production"]
    version = good["production"]["after"]
    assert (compared["state"], str(compared["version"])) == ("comparable", version)
    # The same test photos, answered by both: production as well as when it was released.
    was = good["models"][good["winner"]]["accuracy"]["value"]
    now = refused["models"][refused["winner"]]["accuracy"]["value"]
    assert compared["difference"] == pytest.approx(now - was)
    assert now < was
    assert f"against version {version} in production" in refused["reason"]
    assert "more than release.tolerated_loss (0.01)" in refused["reason"]
    assert refused["production"]["after"] == version

    assert forced_code == 0, forced_output
    assert forced["status"] == "pushed"
    assert forced["reason"].endswith(", by force: the camera was replaced")
    assert forced["release"]["forced"] == "the camera was replaced"
    done_again = {step for step, state in states(forced).items() if state == "complete"}
    assert done_again == {"ReleaseGate", "Pusher"}
    first, second = versions(root)[:2]
    assert (str(first["version"]), first["forced"]) == (version, None)
    assert (second["forced"], second["replaced"]) == ("the camera was replaced", first["version"])
    for manifest, summary in ((first, good), (second, forced)):
        assert manifest["run_id"] == summary["run_id"]
        assert manifest["winner"] == summary["winner"]
        assert manifest["labels"] == ["cat", "dog"]
        assert manifest["metrics"]["accuracy"] == summary["models"][summary["winner"]]["accuracy"]
        assert manifest["data_fingerprint"]
        assert "assets.extra/tf_serving_warmup_requests" in manifest["files"]
    assert first["data_fingerprint"] == second["data_fingerprint"]
    assert first["model_sha256"] != second["model_sha256"]


def test_production_goes_back_and_what_was_rolled_back_is_not_pushed_again(history_of_a_root, shaded, worse):
    root, [(_, _, good), *_], _ = history_of_a_root
    code, output = warmstart("rollback", f"--root={root}", "--reason=it sees nothing")
    assert code == 0, output
    first, second, third = versions(root)
    assert (third["kind"], third["restores"], third["replaced"]) == ("rollback", first["version"], second["version"])
    assert third["reason"] == "it sees nothing"
    assert (third["state"], third["model_sha256"]) == ("production", first["model_sha256"])
    assert served(root)[-1] == str(third["version"])

    tolerant = [*worse, "--set=release.tolerated_loss=1", "--set=release.guarded_slices=[]"]
    code, output, summary = run(shaded, root, *tolerant)
    assert code == 3, output
    assert f"was version {second['version']}" in summary["reason"]
    assert len(versions(root)) == 3

    code, output, summary = run(shaded, root, *tolerant, "--force-push=it saw enough")
    assert code == 0, output
    assert versions(root)[-1]["forced"] == "it saw enough"
    code, output = warmstart("rollback", str(first["version"]), f"--root={root}")
    assert code == 0, output

    photo = shaded / "cat" / "cat.10.jpg"
    code, output = warmstart("predict", f"--root={root}", "--json", str(photo), "README.md")
    assert code == 2, output
    assert "README.md" in output
    code, output = warmstart("predict", f"--root={root}", "--json", str(photo))
    assert code == 0, output
    [answer] = json.loads(output[output.index("[") :])
    assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)
    assert answer["abstains"] is False
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)

    code, output = warmstart("history", f"--root={root}")
    assert code == 0, output
    for said in ("forced", "rollback", "it sees nothing", "not_pushed", good["run_id"], str(third["version"])):
        assert said in output


def test_resolvers_find_the_model_that_was_released(history_of_a_root):
    """The newest model that ReleaseGate blessed. Evaluator has blessings of its own, of the fine-tuned models."""
    root, [(_, _, good), (_, _, refused), (_, _, forced)], resolved = history_of_a_root
    first, second = (_selected(root, summary) for summary in (good, forced))
    assert first != second == _selected(root, refused)
    assert resolved == [first, second]  # while the newest was refused, and once it was forced


def test_another_data_set_is_scored_by_species_and_breed(sample, shaded, small, tmp_path):
    further = [f"--set=evaluation.further.oxford_iiit_pet={sample / 'oxford_iiit_pet'}"]
    code, output, summary = run(shaded, tmp_path / "root", *small, *further, "--to=ReleaseGate")
    assert code == 0, output
    found = summary["further"]["models"][summary["winner"]]
    assert found["examples"] == summary["further"]["data"]["accepted"]["test"] > 50
    assert set(found["slices"]["species"]) == {"cat", "dog"}
    assert "Persian" in found["slices"]["breed"]
    assert set(summary["release"]["further"]) == {"oxford_iiit_pet"}
    assert summary["release"]["further"]["oxford_iiit_pet"]["accuracy"] == pytest.approx(found["accuracy"]["value"])

    code, output = warmstart(
        "run",
        "--config=cats_vs_dogs",
        f"--data={shaded}",
        f"--root={tmp_path / 'other'}",
        *further,
        "--set=evaluation.further_label=label",
    )
    assert code == 2, output
    assert "does not learn" in output


def test_a_grown_folder_costs_its_new_photos_and_training_starts_from_production(shaded, small, tmp_path):
    """With the ensemble as a third candidate, and the head's values found by KerasTuner."""
    data, root = tmp_path / "data", tmp_path / "root"
    photos = sorted(shaded.glob("*/*.jpg"))
    late = photos[::10]
    for photo in photos:
        if photo not in late:
            (data / photo.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(photo, data / photo.parent.name)
    code, output, first = run(data, root, *small)
    assert code == 0, output
    assert first["vectors"]["reused"] == 0
    assert first["vectors"]["computed"] == sum(first["data"]["accepted"].values())
    assert first["models"]["fine_tuned"]["training"]["trained_on"].startswith("cached activations at ")
    for photo in late:
        shutil.copy(photo, data / photo.parent.name)
    more = ["warm_start.source=production", "tuner.trials=2", "tuner.epochs=3"]
    code, output, second = run(
        data,
        root,
        *small,
        "--set=selection.ensemble=true",
        # Few photos are lost or gained by chance; this test is not about them.
        "--set=release.tolerated_loss=0.3",
        *(f"--set=training.{setting}" for setting in more),
    )
    assert code == 0, output
    before, after = (sum(summary["data"]["accepted"].values()) for summary in (first, second))
    assert after > before
    # Identical photos are one entry.
    assert second["vectors"]["reused"] >= before
    assert second["vectors"]["computed"] == after - second["vectors"]["reused"]
    assert set(second["models"]) == {"feature_extraction", "fine_tuned", "ensemble"}
    warm_start = second["models"]["fine_tuned"]["training"]["warm_start"]
    assert "the model in production" in warm_start["source"]
    assert states(second)["Tuner"] == states(second)["Ensemble"] == "complete"
    assert "starting from" in output
