"""`warmstart serve` with the packages of the serving image alone (`deploy/Dockerfile`), without building it."""

import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from deploy.serve import packages
from tests.component.test_serve import REPOSITORY, Server, encoded

pytestmark = pytest.mark.slow  # links some ten thousand files

# With -S Python knows no site-packages: what is on the path is all there is.
START = """
import sys
sys.path[:0] = sys.argv[1:3]
sys.argv = ["warmstart", "serve", *sys.argv[3:]]
from deploy.cli import start
start()
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder with links to the files of the packages that stay in the image."""
    folder = tmp_path_factory.mktemp("site")
    needed = packages.needed()
    for distribution in metadata.distributions(path=[sysconfig.get_path("purelib")]):
        if canonicalize_name(distribution.metadata["Name"]) not in needed:
            continue
        for file in distribution.files or []:
            if file.parts[0] == ".." or file.parts[:2] == ("tensorflow", "include"):
                continue
            link = folder / file
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file.locate())
    return folder


def test_the_server_answers_every_format_and_protocol(site, exported_model):
    command = [sys.executable, "-S", "-c", START, str(REPOSITORY), str(site)]
    started = Server("--model", exported_model, "--name", "pets", command=command)
    try:
        for image_format in ("JPEG", "PNG", "WEBP", "TIFF", "GIF"):
            assert started.ask("POST", "/answer", encoded(image_format)).status == 200
        heic = b"\0\0\0\x18ftypheic"
        refused = started.ask("POST", "/answer", heic + bytes(100)).json
        assert "which needs the package" not in refused["error"]
        for path in ("/", "/metrics", "/model", "/v2/models/pets", "/v1/models/pets/metadata"):
            assert started.ask("GET", path).status == 200
    finally:
        assert started.stop() == 0
    assert not [note for note in started.notes if "Traceback" in note], started.notes


def test_without_the_other_packages_there_is_no_pipeline(site):
    code = "import sys; sys.path[:0] = sys.argv[1:3]; import components.trainer.run"
    command = [sys.executable, "-S", "-c", code, str(REPOSITORY), str(site)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "ModuleNotFoundError" in done.stderr
