"""The executor of TFX Pusher, made atomic."""

from __future__ import annotations

import os

from pydantic import BaseModel, ConfigDict
from tfx.components.pusher.executor import Executor
from tfx.components.util import model_utils
from tfx.dsl.io import fileio
from tfx.proto import pusher_pb2
from tfx.types import Artifact, artifact_utils
from tfx.utils import path_utils, proto_utils

from components.linked_copy import copy_folder
from components.serving_folder.files import model_identity
from components.serving_folder.folder import ServingFolder
from components.serving_folder.results import ALREADY_IN_PRODUCTION, PUSHED
from components.verdict import HAS_MODEL, read_release
from schemas.release import Release

REFUSED = "refused"


class PushSettings(BaseModel):
    """`custom_config` of Pusher."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keep_versions: int
    force_push: str
    """The reason for pushing a model that production was rolled back from; empty to refuse it."""
    lost_version: str
    """The version pushed last, if it is gone from the serving folder; part of the cache key, so that the model is
    pushed again."""
    code: str


class AtomicPusherExecutor(Executor):
    """Pushes a blessed model to a local `ServingFolder`, and removes old versions.

    The artifact `pushed_model` is marked as TFX's own Pusher marks it, and says besides, where nothing was pushed:
    `outcome` (`refused`, `production_changed`, `already_in_production`, `rolled_back`), `reason`, a sentence, and for
    `already_in_production` the `version`.

    Inputs: `model`, the trained one; `model_blessing`, with `release.json` of ReleaseGate beside it; `infra_blessing`,
    which may carry the model with warm-up requests and other formats: then that is what is pushed.
    `custom_config` holds `PushSettings`.
    """

    def Do(self, input_dict, output_dict, exec_properties) -> None:
        self._log_startup(input_dict, output_dict, exec_properties)
        settings = PushSettings.model_validate_json(exec_properties["custom_config"])
        pushed_model = artifact_utils.get_single_instance(output_dict["pushed_model"])
        model_blessing = artifact_utils.get_single_instance(input_dict["model_blessing"])
        infra_blessing = artifact_utils.get_single_instance(input_dict["infra_blessing"])
        release = read_release(model_blessing)
        if not model_utils.is_model_blessed(model_blessing):
            because = f": {release.reason}" if release and release.reason else ""
            self._refuse(pushed_model, REFUSED, f"ReleaseGate refused the model{because}")
            return
        if not model_utils.is_infra_validated(infra_blessing):
            self._refuse(pushed_model, REFUSED, "ServableCheck found that the model cannot be served correctly")
            return

        trained = path_utils.serving_model_path(artifact_utils.get_single_instance(input_dict["model"]).uri)
        has_more = infra_blessing.get_int_custom_property(HAS_MODEL)
        model_folder = path_utils.stamped_model_path(infra_blessing.uri) if has_more else trained
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(exec_properties["push_destination"], destination)
        serving = ServingFolder(destination.filesystem.base_directory)
        expected = release.compared_with if release else serving.production()

        copy_folder(model_folder, pushed_model.uri)  # before production changes: here the disk may be full
        identity = model_identity(trained)
        run_id = self._context.pipeline_run_id
        result = serving.push(model_folder, identity, release or Release(), expected, run_id, settings.force_push)
        if result.outcome != PUSHED:
            fileio.rmtree(pushed_model.uri)
            fileio.makedirs(pushed_model.uri)
            self._refuse(pushed_model, result.outcome, result.reason)
            if result.outcome == ALREADY_IN_PRODUCTION:
                pushed_model.set_string_custom_property("version", str(result.version))
            return
        served = os.path.join(serving.folder, str(result.version))
        self._MarkPushed(pushed_model, pushed_destination=served, pushed_version=str(result.version))
        serving.remove_old(settings.keep_versions)

    def _refuse(self, pushed_model: Artifact, outcome: str, reason: str) -> None:
        self._MarkNotPushed(pushed_model)
        pushed_model.set_string_custom_property("outcome", outcome)
        pushed_model.set_string_custom_property("reason", reason)
