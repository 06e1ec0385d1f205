"""What can be said of the image without building it: deploy/Dockerfile, .dockerignore and deploy/build_image.sh.

tests/end_to_end/test_image.py builds it.
"""

from __future__ import annotations

import ast
import fnmatch
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import pytest

from components.backbone.registry import BACKBONES, CONVERTER_SOURCES
from deploy.commands.serve import serve
from deploy.serve import packages

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
SCRIPT = ROOT / "deploy" / "build_image.sh"
PACKAGES = ("schemas", "samples", "components", "pipeline", "deploy", "warmstart")
BUILD_TOOLS = re.compile(r"(?<![\w./-])(g\+\+|gcc|clang|c?make|build-essential|python3-dev|git|curl|wget)(?![\w/-])")


@dataclass
class Stage:
    """base and name as in `FROM base AS name`; instructions: (word, what follows), without FROM."""

    base: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        return [rest for found, rest in self.instructions if found == word]


def stages(text: str) -> list[Stage]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found: list[Stage] = []
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found.append(Stage(base, name))
        elif word and found:
            found[-1].instructions.append((word, re.sub(r"\s+", " ", rest)))
    return found


STAGES = {stage.name: stage for stage in stages(DOCKERFILE.read_text(encoding="utf-8"))}


def whole(name: str) -> Stage:
    """An image with what it has of the stage that both begin with."""
    stage, runtime = STAGES[name], STAGES["runtime"]
    assert stage.base == "runtime"
    return Stage(runtime.base, name, runtime.instructions + stage.instructions)


FINAL, SERVING = whole(""), whole("serving")
IMAGES = pytest.mark.parametrize("image", [FINAL, SERVING], ids=["pipeline", "serving"])


def copies(stage: Stage) -> list[tuple[list[str], str]]:
    """Sources from the build context, and where they go, of every COPY."""
    words = [rest.split() for rest in stage.all("COPY") if not rest.startswith("--from")]
    return [(sources, target) for *sources, target in words]


def is_sent(path: str, ignore: str | None = None) -> bool:
    """Whether .dockerignore lets a file, relative to the repository, into the build: its last matching line decides."""
    text = (ROOT / ".dockerignore").read_text(encoding="utf-8") if ignore is None else ignore
    sent = True
    parents = [str(part) for part in [Path(path), *Path(path).parents]][:-1]
    for line in text.splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        wanted, pattern = pattern.startswith("!"), pattern.removeprefix("!")
        anywhere = pattern.removeprefix("**/")
        for part in parents:
            name = part if anywhere == pattern else Path(part).name
            # A star stays within one folder.
            if fnmatch.fnmatch(name, anywhere) and name.count("/") == anywhere.count("/"):
                sent = wanted
    return sent


def extra(name: str) -> list[str]:
    """Names of the packages of one extra in setup.py."""
    for node in ast.walk(ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg == "extras_require":
            return [re.split(r"[<>=;\[ ]", text)[0] for text in ast.literal_eval(node.value)[name]]
    raise AssertionError("setup.py has no extras_require")


# --- the image


@IMAGES
def test_the_image_runs_as_a_user_who_is_not_root_named_by_number(image):
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", image.all("USER")[-1])
    after = [word for word, _ in image.instructions[[word for word, _ in image.instructions].index("USER") :]]
    assert "RUN" not in after


@IMAGES
def test_the_image_has_no_build_tools(image):
    assert [rest for rest in image.all("RUN") if BUILD_TOOLS.search(rest)] == []
    assert [rest for rest in STAGES["environment"].all("RUN") if BUILD_TOOLS.search(rest)] != []
    assert image.base == "${BASE}"


@IMAGES
def test_signals_reach_the_command(image):
    for word in ("ENTRYPOINT", "CMD"):
        [words] = image.all(word)
        assert isinstance(ast.literal_eval(words), list), "the other form puts a shell in between"
    assert ast.literal_eval(image.all("ENTRYPOINT")[0])[0] == "tini"


def test_every_stage_is_made_of_one_base_with_the_python_of_the_lock():
    [base] = re.findall(r"^ARG BASE=(.*)$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    assert re.fullmatch(r"python:3\.10-slim-\w+", base)
    assert {name: stage.base for name, stage in STAGES.items()} == {
        "environment": "${BASE}",
        "backbone": "environment",
        "project": "environment",
        "serving-environment": "environment",
        "runtime": "${BASE}",
        "serving": "runtime",
        "": "runtime",
    }
    assert list(STAGES)[-1] == "", "without --target the last one is built"


@IMAGES
def test_the_working_directory_is_none_that_is_shared(image):
    """`python -m` looks there for modules first."""
    assert image.all("WORKDIR") == ["/"]


# --- the image that serves


def test_the_serving_image_holds_what_serving_needs_and_starts_the_server():
    taken = [re.match(r"--from=([\w-]+)", rest)[1] for rest in SERVING.all("COPY")]
    assert taken == ["serving-environment", "project"]
    [removal] = STAGES["serving-environment"].all("RUN")
    [(_, script)] = copies(STAGES["serving-environment"])
    assert f"python {script} >/build/not_needed" in removal
    assert "uninstall --yes --quiet --requirement /build/not_needed" in removal
    words = ast.literal_eval(SERVING.all("ENTRYPOINT")[0])
    assert words[-2:] == ["warmstart", "serve"]
    arguments = dict(word.removeprefix("--").split("=") for word in ast.literal_eval(SERVING.all("CMD")[0]))
    options = {parameter.name: parameter for parameter in serve.params}
    assert arguments.keys() <= options.keys()
    assert arguments["host"] == "0.0.0.0"
    assert SERVING.all("EXPOSE") == [str(options["port"].default)]


def test_what_is_taken_out_of_the_serving_image_is_most_of_the_environment():
    kept = packages.needed()
    gone = set(packages.not_needed())
    assert {"tensorflow", "starlette", "uvicorn", "pillow", "protobuf", "h11", "keras"} <= kept
    assert {"tfx", "apache-beam", "ml-metadata", "tensorflow-model-analysis", "pandas", "matplotlib"} <= gone
    assert not kept & gone
    assert len(gone) > 3 * len(kept)
    asked_for = {re.split(r"[<>=; ]", text)[0] for text in _required()}
    assert set(packages.IMPORTED) <= asked_for


def _required() -> list[str]:
    return [text for text in metadata.requires("warmstart") or [] if "extra ==" not in text]


def test_what_changes_often_comes_last():
    [(sources, _)] = copies(STAGES["environment"])
    assert sources == ["requirements.lock"]
    taken = [re.match(r"--from=(\w+)", rest)[1] for rest in FINAL.all("COPY")]
    assert taken == ["environment", "backbone", "project"]
    assert copies(FINAL) == []
    # A new version or commit makes no layer anew but the last.
    words = [word for word, _ in FINAL.instructions]
    assert min(i for i, word in enumerate(words) if word == "ARG") > max(
        i for i, word in enumerate(words) if word in ("RUN", "COPY")
    )


def test_the_environment_is_the_locked_one_without_what_tests_need():
    [install] = [rest for rest in STAGES["environment"].all("RUN") if " install --no-cache-dir" in rest]
    for flag in ("--require-hashes", "--no-deps", "--requirement /build/requirements.lock"):
        assert flag in install
    removed = re.search(r"uninstall --yes --quiet ([^;]*);", install)[1].split()
    assert sorted(removed) == sorted(extra("test"))
    assert "compileall" in install


def test_the_project_is_installed_without_asking_an_index():
    [install] = [rest for rest in STAGES["project"].all("RUN") if " install " in rest]
    for flag in ("--no-index", "--no-deps", "--no-build-isolation"):
        assert flag in install
    assert "compileall" in install


def test_the_backbone_stage_holds_what_the_conversion_imports_and_nothing_that_changes_often(tmp_path):
    for sources, target in copies(STAGES["backbone"]):
        for source in sources:
            to = tmp_path / target
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, to)
            else:
                to.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, to)
    assert {path.name for path in tmp_path.iterdir()} == {"schemas", "components"}
    assert {path.name for path in (tmp_path / "components").iterdir()} == {
        "__init__.py",
        "backbone",
        "legacy_keras.py",
    }
    # What its folder is called depends on these files, here and in the image.
    for name in CONVERTER_SOURCES:
        assert (tmp_path / "components" / "backbone" / name).is_file()
    code = "from components.backbone import feature_vector; print(feature_vector.__file__, feature_vector.resolve)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path))
    [convert] = STAGES["backbone"].all("RUN")
    handle = re.search(r"resolve\('(\w+)'\)", convert)[1]
    assert handle in BACKBONES
    assert re.search(r"WARMSTART_CACHE=(\S+)", convert)[1] in " ".join(FINAL.all("ENV"))


def test_no_index_is_named_and_secrets_are_mounted_only():
    for file in (DOCKERFILE, SCRIPT):
        assert re.findall(r"https?://\S+", file.read_text(encoding="utf-8")) == []
    for stage in STAGES.values():
        assert [rest for rest in stage.all("COPY") + stage.all("ENV") + stage.all("ARG") if "secret" in rest] == []
    mounted = re.findall(r"--mount=type=secret,id=(\w+)", " ".join(STAGES["environment"].all("RUN")))
    given = set(re.findall(r'--secret "id=(\w+),', SCRIPT.read_text(encoding="utf-8")))
    assert set(mounted) == given == {"pip_conf", "ca_bundle"}


# --- what is sent to the builder


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".venv/bin/python",
        ".tools/bin/uv",
        "runs/cats_vs_dogs/metadata.sqlite",
        "sample/cats_vs_dogs/cat/1.jpg",
        "photos/cat.jpg",
        "cat.jpg",
        "uv.lock",
        ".env",
        "tests/conftest.py",
        "benchmarks/step_times.py",
        "deploy/Dockerfile",
        "deploy/build_image.sh",
        "deploy/kubernetes/base/volume.yaml",
        "components/__pycache__/records.cpython-310.pyc",
        "components/trainer/__pycache__/loop.cpython-310.pyc",
    ],
)
def test_photos_runs_environments_and_history_are_not_sent_to_the_builder(path):
    assert not is_sent(path)


def test_everything_that_is_copied_exists_and_is_sent():
    sources = [source for stage in STAGES.values() for of, _ in copies(stage) for source in of]
    assert set(PACKAGES) <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert is_sent(source), source
    for path in ("components/trainer/loop.py", "pipeline/configs/species.yaml", "schemas/species.pbtxt"):
        assert is_sent(path)


def test_the_last_line_of_a_dockerignore_decides():
    assert not is_sent("a/b", "*")
    assert is_sent("a/b", "*\n!a")
    assert not is_sent("a/b", "*\n!a\na/b")
    assert not is_sent("a/b/c.pyc", "*\n!a\n**/*.pyc")
    assert is_sent("a/b", "b")


# --- what is installed


def installed_patterns() -> dict[str, list[str]]:
    for node in ast.walk(ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg == "package_data":
            return ast.literal_eval(node.value)
    return {}


def test_every_file_of_the_packages_is_installed():
    """A step on Kubeflow finds only what setup.py installs."""
    missing = []
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*")):
            relative = file.relative_to(ROOT)
            if not file.is_file() or not is_sent(str(relative)):
                continue
            if file.suffix == ".py":
                if not (file.parent / "__init__.py").exists():
                    missing.append(f"{relative}: no __init__.py beside it")
            elif not any(
                file.relative_to(ROOT / package).match(pattern) for pattern in installed_patterns().get(package, [])
            ):
                missing.append(f"{relative}: not in package_data")
    assert missing == []


# --- the script


def run_script(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess:
    environment = {**os.environ, **({"PATH": path} if path else {})}
    return subprocess.run(
        ["/bin/sh", str(SCRIPT), *arguments], env=environment, capture_output=True, text=True, check=False
    )


def test_the_script_tells_its_options():
    done = run_script("--help")
    assert done.returncode == 0
    options = set(re.findall(r"^    (--[a-z-]+)[ )|]", SCRIPT.read_text(encoding="utf-8"), re.MULTILINE))
    assert len(options) > 5
    assert {option for option in options if option not in done.stdout} == set()
    assert "set -eu" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--turbo"], "error: unknown argument --turbo: deploy/build_image.sh --help"),
        (["--tag"], "error: --tag needs a value: deploy/build_image.sh --help"),
        (["--builder", "kaniko"], "error: unknown builder kaniko: expected docker, podman or buildah"),
        (["--target", "training"], "error: unknown --target training: expected serving"),
        (["--rootfs", "tar"], "error: unknown --rootfs tar: expected debootstrap"),
    ],
)
def test_a_wrong_argument_of_the_script_is_one_sentence(arguments, sentence):
    done = run_script(*arguments)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (2, "", sentence)


def test_without_a_builder_the_script_says_what_to_install(tmp_path):
    for tool in ("sed", "dirname", "git"):
        if found := shutil.which(tool):
            (tmp_path / tool).symlink_to(found)
    done = run_script(path=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.strip() == "error: neither docker, podman nor buildah works here: apt-get install buildah"


# --- linters, where they are


@pytest.mark.parametrize(("tool", "file"), [("hadolint", DOCKERFILE), ("shellcheck", SCRIPT)])
def test_the_linter_finds_nothing(tool, file):
    if shutil.which(tool) is None:
        pytest.skip(f"needs {tool}")
    done = subprocess.run([tool, str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
