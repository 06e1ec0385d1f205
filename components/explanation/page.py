"""The page of an explanation: the pictures and how they were made, in one file that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from PIL import Image

from components.explanation import heat_maps
from components.explanation.pictures import jpeg, jpeg_uri
from components.whole_file import write_whole

PAGE_FILE = "index.html"
# Photos up to this many are in the page itself; of more the page shows the files beside it, or it would grow too large.
MOST_EMBEDDED = 24

HOW = {
    heat_maps.GRAD_CAM: "Grad-CAM (Selvaraju et al. 2017): the last spatial layer, with each channel weighted by the "
    "mean gradient of the class score there. It is as coarse as that layer.",
    heat_maps.INTEGRATED_GRADIENTS: "Integrated gradients (Sundararajan et al. 2017): the gradient of the class's "
    "log-odds at each pixel, summed along the way from black and from white to the photo, then smoothed.",
    heat_maps.OCCLUSION: "Occlusion (Zeiler and Fergus 2014): how far the class's log-odds fall when a square of the "
    "photo's median colour covers a place.",
}
FEATURE_MAPS = (
    "Feature maps: the responses of a layer's channels to the photo. The channels with the most contrast are shown, "
    "each scaled from its lowest value (dark) to its highest (bright)."
)
CHANNELS = "Images that excite a channel most, by gradient ascent from grey with jitter and blur (Olah et al. 2017)."

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>What the models look at</title>
<style>
  :root { color-scheme: light dark; --soft: light-dark(#5a5a5a, #b4b4b4); --line: light-dark(#d8d8d8, #4a4a4a); }
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
  h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; overflow-wrap: anywhere; }
  figure { margin: 1rem 0; } figcaption, .soft { color: var(--soft); }
  img { max-width: 100%; height: auto; border: 1px solid var(--line); border-radius: 0.4rem; }
  .scroll { overflow-x: auto; } table { border-collapse: collapse; }
  th, td { padding: 0.25rem 1rem 0.25rem 0; text-align: left; vertical-align: top; }
  td + td, li, p { overflow-wrap: anywhere; }
  th, td { border-bottom: 1px solid var(--line); }
  @media print { figure { break-inside: avoid; } }
</style>
</head>
<body>
<h1>What the models look at</h1>
<div class="scroll"><table>
<tr><th>model</th><th>folder</th><th>heat maps by</th></tr>
{% for model in models %}
<tr><td>{{ model.name }}</td><td>{{ model.folder }}</td>
<td>{{ model.method or "none" }}{% if model.why %}. {{ model.why }}{% endif %}</td></tr>
{% endfor %}
</table></div>
<ul class="soft">{% for text in how %}<li>{{ text }}</li>{% endfor %}</ul>
{% if sections | length > 1 %}
<ol>{% for section in sections %}<li><a href="#s{{ loop.index }}">{{ section.title }}</a></li>{% endfor %}</ol>
{% endif %}
{% for section in sections %}
<h2 id="s{{ loop.index }}">{{ section.title }}</h2>
{% for line in section.lines %}<p>{{ line }}</p>{% endfor %}
{% for picture in section.pictures %}
<figure>
<a href="{{ address(picture.file) }}"><img src="{{ source(picture.file) }}" alt="{{ picture.text }}" loading="lazy"></a>
<figcaption>{{ picture.text }}</figcaption>
</figure>
{% endfor %}
{% endfor %}
{% if failed %}
<h2>Not explained</h2>
<ul>{% for text in failed %}<li>{{ text }}</li>{% endfor %}</ul>
{% endif %}
</body>
</html>
"""


@dataclass(frozen=True)
class ShownModel:
    """A model on the page."""

    name: str
    folder: str
    method: str  # one of `heat_maps.METHODS`, or empty
    why: str  # why no better method was possible


@dataclass(frozen=True)
class Picture:
    """A picture on the page."""

    file: Path  # next to the page
    text: str  # what it shows and how it was made


@dataclass(frozen=True)
class Section:
    """The pictures of one photo, or of the channels of a layer."""

    title: str
    lines: Sequence[str]
    pictures: Sequence[Picture]


def write_page(
    folder: Path, models: Sequence[ShownModel], how: Sequence[str], sections: Sequence[Section], failed: Sequence[str]
) -> Path:
    """Writes `index.html` beside the pictures, whole or not at all.

    Args:
      folder: folder of the pictures.
      models: the explained models.
      how: sentences on the methods.
      sections: the pictures. Names from files are escaped.
      failed: sentences on files that could not be explained.
    """
    embedded = len(sections) <= MOST_EMBEDDED

    def source(file: Path) -> str:
        if not embedded:
            return file.name
        with Image.open(file) as picture:
            return jpeg_uri(jpeg(picture))

    page = (
        jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
        .from_string(_PAGE)
        .render(
            models=models,
            how=how,
            sections=sections,
            failed=failed,
            source=source,
            address=lambda file: file.name,
        )
    )
    path = folder / PAGE_FILE
    write_whole(path, page.encode("utf-8", "replace"))
    return path
