"""The review page's server: what it shows, what it writes, whom it refuses."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import warnings
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import components  # noqa: F401  (settings that TensorFlow reads on import)
from deploy.collection import Collection, CollectionLimits
from deploy.review.application import ReviewApplication
from deploy.review.decisions import Decisions
from deploy.review.items import make_items
from deploy.review.new_span import find_place, make_span
from deploy.review.start import make_review
from deploy.root import CONFIG_FILE, SUMMARY_FILE, Root
from pipeline.config import dump_config, load_config
from schemas.corrections import Correction, corrections_csv, fingerprint_of, read_corrections
from schemas.errors import BadInput
from schemas.findings import FINDINGS_JSON, Finding, Findings, findings_json

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # httpx is what there is
    from starlette.testclient import TestClient

LABELS = ["cat", "dog", "=hen"]
ADDRESS = "http://127.0.0.1:8501"


def photo(seed: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (900, 700, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def hash_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


PHOTOS = {f"{label}/{i}.jpg": photo(7 * i + len(label)) for i in range(2) for label in ("cat", "doggo")}
CAT, OTHER_CAT = hash_of(PHOTOS["cat/0.jpg"]), hash_of(PHOTOS["cat/1.jpg"])
GONE, BOTH = "a" * 64, hash_of(photo(99))


@pytest.fixture
def root(tmp_path) -> Root:
    """A root with a run over spans of photos."""
    found = Root(tmp_path / "root")
    found.prepare("image_folder")
    for path, content in PHOTOS.items():
        file = tmp_path / "photos" / "span-007" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    for label in ("cat", "dog"):
        (tmp_path / "photos" / "span-007" / label).mkdir(exist_ok=True)
        (tmp_path / "photos" / "span-007" / label / "both.jpg").write_bytes(photo(99))
    folder = found.reports / "2026-11-30T10-00-00Z"
    folder.mkdir()
    config = load_config("image_folder", ["data.window=2"], [f"{tmp_path}/photos/span-{{SPAN:3}}"])
    (folder / CONFIG_FILE).write_text(dump_config(config))
    (folder / SUMMARY_FILE).write_text(
        json.dumps({"schema_version": 1, "run_id": folder.name, "status": "pushed", "reason": "", "production": {}})
    )
    of_cat = {"dataset": "image_folder", "span": "7", "split": "train", "content_hash": CAT, "label": "cat"}
    listed = [
        Finding(kind="low_confidence", path="cat/0.jpg", **of_cat, probability=0.5, detail="not sure."),
        Finding(
            kind="suspected_label", path="cat/0.jpg", **of_cat, proposal="dog", probability=0.9, detail="rather dog."
        ),
        Finding(kind="mistake", path="gone.jpg", content_hash=GONE, label="cat", proposal="=hen", detail="gone."),
        Finding(kind="rejected", path="x.jpg", reason="empty", detail="x.jpg is empty."),
    ]
    for label in ("cat", "dog"):
        both = {"dataset": "image_folder", "span": "7", "content_hash": BOTH, "label": label}
        listed.append(Finding(kind="contradictory_label", path=f"{label}/both.jpg", **both, detail="in both."))
    (folder / FINDINGS_JSON).write_bytes(findings_json(Findings(run_id=folder.name, labels=LABELS, findings=listed)))
    return found


@contextlib.contextmanager
def page(root: Root, on_loopback: bool = True, token: str = "", **settings):
    reviewed = make_review(root, "latest", who="ann", **settings)
    with TestClient(ReviewApplication(reviewed, on_loopback, token).asgi, ADDRESS, follow_redirects=False) as client:
        yield client


@pytest.fixture
def client(root):
    with page(root) as made:
        yield made


def decide(client: TestClient, content_hash: str, decision: str, label: str | None = None, **headers: str):
    body = {"content_hash": content_hash, "decision": decision, **({} if label is None else {"label": label})}
    return client.post("/decide", json=body, headers=headers)


def written(root: Root) -> dict[str, Correction]:
    return {one.content_hash: one for one in read_corrections(root.folder / "corrections.csv")}


# ---- what is shown


def test_each_photo_is_there_once_with_all_that_was_found(client, root):
    told = client.get("/items").json()
    assert (told["name"], told["run"], told["labels"]) == ("image_folder", "2026-11-30T10-00-00Z", LABELS)
    assert told["file"] == str(root.folder / "corrections.csv")
    assert told["command"].endswith(f"--set data.corrections={root.folder}/corrections.csv")
    assert told["collects"] is False
    both, cat, gone = told["items"]
    assert (both["content_hash"], both["labels"], both["proposal"]) == (BOTH, ["cat", "dog"], "")
    assert [one["kind"] for one in cat["found"]] == ["suspected_label", "low_confidence"]
    assert (cat["labels"], cat["proposal"], cat["probability"], cat["decision"]) == (["cat"], "dog", 0.9, None)
    assert gone["proposal"] == "=hen"


def test_a_picture_is_that_of_the_file_with_this_content(client, tmp_path):
    reply = client.get(f"/photo/{CAT}")
    assert (reply.status_code, reply.headers["content-type"]) == (200, "image/jpeg")
    assert max(Image.open(io.BytesIO(reply.content)).size) == 480
    assert client.get(f"/photo/{BOTH}").status_code == 200
    assert client.get(f"/photo/{OTHER_CAT}").status_code == 404  # not to be reviewed
    assert client.get(f"/photo/{GONE}").json() == {
        "error": "The photo is not where it was, and not in the run's examples."
    }
    (tmp_path / "photos" / "span-007" / "cat" / "0.jpg").write_bytes(photo(5))
    assert client.get(f"/photo/{CAT}").status_code == 404
    for wrong in ("..%2f..%2froot%2fcorrections.csv", "%00", "x" * 5000):
        assert client.get(f"/photo/{wrong}").status_code == 404


def test_a_moved_photo_is_found_in_the_examples_of_the_run(root, tmp_path, write_records, make_example, drawn_photos):
    reviewed = make_review(root, "2026-11", who="ann")
    drawn = drawn_photos[0]
    write_records(tmp_path / "examples" / "Split-train", [make_example(drawn)])
    item = replace(reviewed.items[0], content_hash=hash_of(drawn.photo_bytes), places=[("image_folder", "7", "moved")])
    finder = type(reviewed.finder)(reviewed.config, [item], lambda: [str(tmp_path / "examples")])
    picture = finder.picture(item.content_hash)
    assert Image.open(io.BytesIO(picture)).size == Image.open(io.BytesIO(drawn.photo_bytes)).size


def test_the_page_brings_its_files(client):
    reply = client.get("/")
    assert reply.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    for name in ("review.css", "review.js", "page.css"):
        assert name in reply.text
        assert client.get(f"/{name}").status_code == 200


# ---- what is written


def test_decisions_are_written_at_once_and_no_photo_is_touched(client, root, tmp_path):
    def state() -> dict[Path, tuple[int, int]]:
        return {file: (file.stat().st_mtime_ns, file.stat().st_size) for file in (tmp_path / "photos").rglob("*")}

    before = state()
    reply = decide(client, CAT, "change", "dog")
    assert reply.json()["decision"]["new_label"] == "dog"
    one = written(root)[CAT]
    assert (one.file_name, one.old_label, one.new_label, one.who) == ("cat/0.jpg", "cat", "dog", "ann")
    assert one.when.endswith("Z")
    decide(client, GONE, "drop")
    decide(client, BOTH, "change", "dog")
    found = written(root)
    assert list(found) == [CAT, GONE, BOTH]
    assert (found[GONE].drops, found[GONE].old_label) == (True, "cat")
    # The copy in cat/ is the one that was wrong, so this is no confirmation.
    assert (found[BOTH].old_label, found[BOTH].new_label) == ("cat", "dog")
    assert fingerprint_of(found.values()) == fingerprint_of([found[CAT], found[GONE], found[BOTH]])
    decide(client, CAT, "keep")
    assert written(root)[CAT].confirms
    decide(client, CAT, "change", "=hen")
    assert written(root)[CAT].new_label == "=hen"
    assert "'=hen" in (root.folder / "corrections.csv").read_text()
    assert state() == before
    assert [item["decision"]["who"] for item in client.get("/items").json()["items"]] == ["ann"] * 3


def test_undo_brings_back_what_the_file_said_before(root):
    old = Correction(content_hash=CAT, old_label="kitten", new_label="cat", who="bob", when="2026-11-01T00:00:00Z")
    other = Correction(content_hash=OTHER_CAT, file_name="of another run", new_label="dog")
    (root.folder / "corrections.csv").write_bytes(corrections_csv([other, old]))
    with page(root) as client:
        # The run had the former correction: to keep its label is still to correct that of the folder.
        decide(client, CAT, "keep")
        assert (written(root)[CAT].old_label, written(root)[CAT].new_label) == ("kitten", "cat")
        decide(client, CAT, "drop")
        assert decide(client, CAT, "undo").json()["decision"]["who"] == "bob"
        assert list(written(root).values()) == [other, old]
        decide(client, GONE, "drop")
        assert decide(client, GONE, "undo").json()["decision"] is None
        assert list(written(root).values()) == [other, old]


def test_lines_of_somebody_else_stay(client, root):
    decide(client, CAT, "change", "dog")
    lines = written(root)
    of_bob = Correction(content_hash=OTHER_CAT, new_label="dog", who="bob")
    (root.folder / "corrections.csv").write_bytes(corrections_csv([*lines.values(), of_bob]))
    decide(client, GONE, "drop")
    assert written(root)[OTHER_CAT] == of_bob
    (root.folder / "corrections.csv").write_text("nonsense\n")
    reply = decide(client, GONE, "keep")
    assert (reply.status_code, "has no column content_hash" in reply.json()["error"]) == (409, True)
    assert (root.folder / "corrections.csv").read_text() == "nonsense\n"


def test_a_file_that_cannot_be_written_is_told(client, root, monkeypatch):
    def full(file: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("deploy.review.decisions.write_whole", full)
    reply = decide(client, CAT, "drop")
    assert (reply.status_code, "No space left" in reply.json()["error"]) == (500, True)


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({"content_hash": CAT, "decision": "change", "label": "bird"}, 400, "'bird' is not a class of this run."),
        ({"content_hash": BOTH, "decision": "keep"}, 400, "is in several classes"),
        ({"content_hash": OTHER_CAT, "decision": "drop"}, 404, "no such photo"),
        ({"content_hash": CAT, "decision": "burn"}, 400, "none of keep, change, drop, undo"),
        ({"content_hash": CAT, "decision": "change", "label": 7}, 400, "label is not a text"),
        ([], 400, "not a JSON object"),
        ({"content_hash": "x" * 20_000}, 413, "too large"),
    ],
)
def test_nonsense_is_refused_and_nothing_is_written(client, root, body, status, sentence):
    reply = client.post("/decide", json=body)
    assert (reply.status_code, sentence in reply.json()["error"]) == (status, True), reply.text
    assert not (root.folder / "corrections.csv").exists()


# ---- who may


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": ADDRESS}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Host": "evil.example:8501", "Origin": "http://evil.example:8501"}, 403),
    ],
)
def test_pages_of_other_websites_may_not_decide(client, root, headers, status):
    assert decide(client, CAT, "drop", **headers).status_code == status
    assert (root.folder / "corrections.csv").exists() == (status == 200)


def test_a_plain_form_of_another_website_decides_nothing(client):
    assert client.post("/decide", data={"content_hash": CAT, "decision": "drop"}).status_code == 415


def test_a_token_is_asked_for(root):
    with page(root, on_loopback=False, token="s3cret") as client:
        for path in ("/", "/items", f"/photo/{CAT}", "/review.js", "/?token=wrong"):
            assert client.get(path).status_code == 401, path
        assert decide(client, CAT, "drop").status_code == 401
        assert decide(client, CAT, "keep", Authorization="Bearer s3cret").status_code == 200
        opened = client.get("/?token=s3cret")
        assert (opened.status_code, opened.headers["location"]) == (303, "/")
        cookie = opened.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert client.get("/items").status_code == 200  # the client has the cookie now
        assert decide(client, CAT, "drop").status_code == 200
        assert decide(client, CAT, "drop", Origin="http://evil.example").status_code == 403


# ---- which run


def test_a_run_without_findings_is_told(root):
    (root.reports / "2026-11-30T10-00-00Z" / FINDINGS_JSON).unlink()
    with pytest.raises(BadInput, match=r"has no findings.json: it has not ended, or an older version made it"):
        make_review(root, "latest")
    with pytest.raises(BadInput, match="there is no run 'x'"):
        make_review(root, "x")


def test_the_file_of_the_run_s_configuration_is_the_one_that_is_written(root, tmp_path):
    file = root.reports / "2026-11-30T10-00-00Z" / CONFIG_FILE
    file.write_text(file.read_text().replace("corrections: null", f"corrections: {tmp_path}/mine.csv"))
    reviewed = make_review(root, "latest")
    assert reviewed.decisions.file == tmp_path / "mine.csv"
    assert "--set" not in reviewed.command
    assert make_review(root, "latest", str(tmp_path / "other.csv")).decisions.file == tmp_path / "other.csv"
    with pytest.raises(BadInput, match="there is no folder"):
        make_review(root, "latest", str(tmp_path / "nowhere" / "c.csv"))


def test_a_photo_without_a_label_can_be_kept_by_nobody(tmp_path):
    [item] = make_items([Finding(kind="far_photo", path="x", content_hash=CAT)])
    with pytest.raises(ValueError, match="x has no label to keep; leave it as it is, or drop the photo"):
        Decisions(tmp_path / "c.csv", "", LABELS).decide(item, "keep")


# ---- masks


def test_a_suspected_mask_is_drawn_over_its_photo_and_dropped_or_kept(
    root, tmp_path, write_records, make_example, drawn_photos, drawn_mask, monkeypatch
):
    drawn, other = drawn_photos[0], drawn_photos[1]
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets" / "a.jpg").write_bytes(drawn.photo_bytes)  # its picture still comes with the mask
    folder = root.reports / "2026-11-30T10-00-00Z"
    config = load_config("oxford_iiit_pet_masks", [], [str(tmp_path / "pets")])
    (folder / CONFIG_FILE).write_text(dump_config(config))
    suspected = {"kind": "suspected_mask", "dataset": "oxford_iiit_pet", "split": "test", "detail": "far off."}
    listed = [
        Finding(**suspected, path="a.jpg", content_hash=hash_of(drawn.photo_bytes), label="pug"),
        Finding(**suspected, path="b.jpg", content_hash=hash_of(other.photo_bytes)),
    ]
    found = Findings(run_id=folder.name, labels=["pet", "background", "border"], findings=listed)
    (folder / FINDINGS_JSON).write_bytes(findings_json(found))
    examples = [make_example(each) for each in (drawn, other)]
    for example, each in zip(examples, (drawn, other), strict=True):
        example.features.feature["mask"].bytes_list.value.append(drawn_mask(each))
    write_records(tmp_path / "examples" / "Split-test", examples)
    monkeypatch.setattr("deploy.review.start._examples", lambda root, folder: [str(tmp_path / "examples")])
    with page(root) as client:
        told = client.get("/items").json()
        assert (told["of_masks"], told["labels"]) == (True, [])
        picture = Image.open(io.BytesIO(client.get(f"/photo/{hash_of(drawn.photo_bytes)}").content))
        plain = Image.open(io.BytesIO(drawn.photo_bytes)).convert("RGB")
        ids = np.array(Image.open(io.BytesIO(drawn_mask(drawn))))
        difference = np.abs(np.asarray(picture, float) - np.asarray(plain, float)).mean(axis=-1)
        assert picture.size == plain.size
        assert difference[ids == 0].mean() > 2 * difference[ids == 1].mean()  # the pet is tinted, not the background
        decide(client, hash_of(drawn.photo_bytes), "keep")
        assert decide(client, hash_of(other.photo_bytes), "keep").status_code == 400
        decide(client, hash_of(other.photo_bytes), "drop")
    kept, dropped = written(root).values()
    assert kept.confirms
    assert dropped.drops


def test_the_page_says_that_it_corrects_no_masks(client):
    assert client.get("/items").json()["of_masks"] is False
    text = " ".join(client.get("/").text.split())
    assert '<p id="masks" hidden>Masks are not corrected here: drop a photo whose mask is wrong' in text
    assert 'byId("masks").hidden = !told.of_masks' in client.get("/review.js").text


# ---- collected photos


def collected(tmp_path: Path, count: int = 3) -> Collection:
    made = Collection(tmp_path / "unsure", CollectionLimits())
    for i in range(count):
        assert made.offer(photo(200 + i), "cat", {"cat": 0.5, "dog": 0.45, "=hen": 0.05}, False, name=f"{i}.jpg")
    return made


def test_collected_photos_are_labelled_into_a_new_span(root, tmp_path):
    collection = collected(tmp_path)
    with page(root, collection=collection) as client:
        told = client.get("/items").json()
        assert told["collects"] is True
        hashes = {one["name"]: one["content_hash"] for one in told["collected"]}
        assert client.get(f"/photo/{hashes['0.jpg']}").status_code == 200
        assert client.post("/span", json={}).json()["error"].startswith("no collected photo has a label yet")

        def label(name: str, chosen: str | None):
            return client.post("/label", json={"content_hash": hashes[name], "label": chosen})

        assert label("0.jpg", "bird").status_code == 400
        assert label("0.jpg", "dog").json()["new_label"] == "dog"
        assert label("1.jpg", "cat").json()["new_label"] == "cat"
        assert label("1.jpg", None).json()["new_label"] is None
        assert label("1.jpg", "").json()["new_label"] == ""
        made = client.post("/span", json={}).json()
        assert made == {"folder": f"{tmp_path}/photos/span-008", "photos": 1, "removed": 1}
        assert [one["name"] for one in client.get("/items").json()["collected"]] == ["2.jpg"]
    files = sorted(str(file.relative_to(tmp_path / "photos" / "span-008")) for file in Path(made["folder"]).rglob("*"))
    assert files == ["_SUCCESS", "dog", f"dog/{hashes['0.jpg']}.jpg"]
    assert (Path(made["folder"]) / "dog" / f"{hashes['0.jpg']}.jpg").read_bytes() == photo(200)
    assert [each.name for each in (tmp_path / "photos").iterdir() if each.name.startswith(".")] == []


def test_where_a_new_span_goes(tmp_path):
    def place(source: str, *settings: str, into: str | None = None) -> Path:
        return find_place(load_config("image_folder", [*settings], [source]), into, date(2026, 12, 1))

    daily = f"{tmp_path}/{{YYYY}}/{{MM}}-{{DD}}/{{VERSION}}"
    assert place(daily, "data.window=2") == tmp_path / "2026" / "12-01" / "1"
    (tmp_path / "2026" / "12-01" / "1").mkdir(parents=True)
    with pytest.raises(BadInput, match=r"the span of today, .* exists already; name a new folder with --into"):
        place(daily, "data.window=2")
    with pytest.raises(BadInput, match=r"data.window is not set"):
        place(daily)
    with pytest.raises(BadInput, match="are not in spans"):
        place(str(tmp_path))
    assert place(str(tmp_path), into=str(tmp_path / "new")) == tmp_path / "new"
    with pytest.raises(BadInput, match="a new folder"):
        place(str(tmp_path), into=str(tmp_path))
    pets = load_config("oxford_iiit_pet", [], [str(tmp_path)])
    with pytest.raises(BadInput, match="can only be added to image_folder or cats_vs_dogs"):
        find_place(pets, None)


def test_a_span_that_cannot_be_written_leaves_the_collection_as_it_was(tmp_path, monkeypatch):
    collection = collected(tmp_path, 1)
    [one] = collection.photos()
    collection.say(one, "dog")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("deploy.review.new_span.shutil.copyfile", full)
    with pytest.raises(BadInput, match="No space left on device"):
        make_span(collection, tmp_path / "span-1", "_SUCCESS")
    assert [photo.new_label for photo in collection.photos()] == ["dog"]
    assert {each.name for each in tmp_path.iterdir()} == {"unsure"}
