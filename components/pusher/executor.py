"""The executor of TFX Pusher, made atomic."""

from __future__ import annotations

import os
import time

from tfx.components.pusher.executor import Executor
from tfx.dsl.io import fileio
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils
from tfx.utils import io_utils, proto_utils

# TensorFlow Serving takes numeric folder names only.
_INCOMING = ".incoming-"


def served_versions(serving_folder: str) -> list[int]:
    """The versions in TensorFlow Serving's layout, oldest first."""
    if not fileio.isdir(serving_folder):
        return []
    return sorted(int(name.strip("/")) for name in fileio.listdir(serving_folder) if name.strip("/").isdecimal())


class AtomicPusherExecutor(Executor):
    """Copies the model beside its place and renames it, so that a killed push leaves no half version."""

    def Do(self, input_dict, output_dict, exec_properties) -> None:
        self._log_startup(input_dict, output_dict, exec_properties)
        pushed_model = artifact_utils.get_single_instance(output_dict["pushed_model"])
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed_model)
            return
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(exec_properties["push_destination"], destination)
        serving_folder = destination.filesystem.base_directory
        fileio.makedirs(serving_folder)
        for name in fileio.listdir(serving_folder):
            if name.startswith(_INCOMING):  # of a push that was killed; only one runs at a time
                fileio.rmtree(os.path.join(serving_folder, name))
        version = max([int(time.time()), *(v + 1 for v in served_versions(serving_folder))])
        incoming = os.path.join(serving_folder, f"{_INCOMING}{version}")
        model_path = self.GetModelPath(input_dict)
        io_utils.copy_dir(model_path, pushed_model.uri)
        io_utils.copy_dir(model_path, incoming)
        served = os.path.join(serving_folder, str(version))
        fileio.rename(incoming, served)
        self._MarkPushed(pushed_model, pushed_destination=served, pushed_version=str(version))
