"""The page of a run: what `summary.json` says, for people, in one file that needs no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from components.whole_file import write_whole

PAGE_FILE = "index.html"

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ s.status }}: {% if name %}{{ name }}, {% endif %}{{ s.run_id }}</title>
<style>
  :root { color-scheme: light dark; --soft: light-dark(#5a5a5a, #b4b4b4); --line: light-dark(#d8d8d8, #4a4a4a); }
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
  h1 { font-size: 1.5rem; margin-bottom: 0.25rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
  .status { display: inline-block; padding: 0 0.6rem; border: 2px solid; border-radius: 0.4rem; }
  p.soft, caption { color: var(--soft); } caption { text-align: left; }
  .scroll { overflow-x: auto; } table { border-collapse: collapse; }
  th, td { padding: 0.25rem 1rem 0.25rem 0; text-align: left; vertical-align: top; }
  th, td { border-bottom: 1px solid var(--line); }
  td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
  .text, p { overflow-wrap: anywhere; }
</style>
</head>
<body>
<h1><span class="status">{{ s.status | replace("_", " ") }}</span> {{ name }}</h1>
<p class="soft">run {{ s.run_id }}, {{ "%.0f" | format(s.duration_seconds) }} seconds</p>
<p>{{ s.reason }}</p>

{% if s.models %}
<h2>Models</h2>
{% for text in texts %}<p>{{ text }}</p>{% endfor %}
<div class="scroll"><table>
<caption>on the test split, with intervals</caption>
<tr><th>model</th><th class="number">photos</th>
<th>accuracy</th><th>log loss</th><th>calibration error</th><th></th></tr>
{% for model, m in s.models.items() %}
<tr><td>{{ model | replace("_", " ") }}</td><td class="number">{{ m.examples }}</td>
<td>{{ percent(m.accuracy.value) }} ({{ percent(m.accuracy.low) }} to {{ percent(m.accuracy.high) }})</td>
{% for key in ("loss", "calibration_error") %}
<td>{{ "%.3f" | format(m[key].value) }} ({{ "%.3f" | format(m[key].low) }} to {{ "%.3f" | format(m[key].high) }})</td>
{% endfor %}
<td>{% if model == s.winner %}wins{% endif %}</td></tr>
{% endfor %}
</table></div>
{% endif %}

<h2>Production</h2>
<p>before: {{ s.production.before or "none" }}, after: {{ s.production.after or "none" }},
in {{ s.production.folder }}</p>

{% if s.data %}
<h2>Photos</h2>
<div class="scroll"><table>
<tr><th>class</th>{% for split in s.data.classes %}<th class="number">{{ split }}</th>{% endfor %}</tr>
{% for label in labels %}
<tr><td class="text">{{ label }}</td>
{% for counts in s.data.classes.values() %}<td class="number">{{ counts.get(label, 0) }}</td>{% endfor %}</tr>
{% endfor %}
</table></div>
{% if s.data.rejected_files %}
<p>{{ s.data.rejected_files | length }} files were rejected{% if more %}; the first {{ shown | length }}{% endif %}:</p>
<ul>{% for file in shown %}<li class="text">{{ file.detail }}</li>{% endfor %}</ul>
{% endif %}
{% endif %}

<h2>Steps</h2>
<div class="scroll"><table>
<tr><th>step</th><th>state</th><th class="number">seconds</th></tr>
{% for node in s.nodes %}
<tr><td>{{ node.id }}</td><td>{{ node.state | replace("_", " ") }}</td>
<td class="number">{{ "%.1f" | format(node.seconds) }}</td></tr>
{% endfor %}
</table></div>
</body>
</html>
"""
_SHOWN_FILES = 50


def write_page(summary: dict[str, Any], folder: Path, findings: dict[str, Any] | None = None) -> Path:
    """Writes `index.html` of a run, whole or not at all.

    Args:
      summary: the content of `summary.json`. All names in it come from photos and folders, and are shown as text.
      folder: of the run.
      findings: of `components.report.findings`.
    """
    del findings
    data = summary["data"]
    labels = sorted({label for counts in data["classes"].values() for label in counts}) if data else []
    rejected = data["rejected_files"] if data else []
    texts = [summary[key]["text"] for key in ("verdict", "release", "servable") if summary[key]]
    # Names of files may hold bytes that are no text.
    page = (
        jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
        .from_string(_PAGE)
        .render(
            s=summary,
            name=(summary["config"] or {}).get("name", ""),
            labels=labels,
            texts=texts,
            shown=rejected[:_SHOWN_FILES],
            more=len(rejected) > _SHOWN_FILES,
            percent=lambda share: f"{100 * share:.1f} %",
        )
    )
    path = folder / PAGE_FILE
    write_whole(path, page.encode("utf-8", "replace"))
    return path


def main_metrics(summary: dict[str, Any]) -> dict[str, float]:
    """The numbers of a run for a dashboard: metric -> value; accuracies are shares in [0, 1]."""
    metrics: dict[str, float] = {"pushed": float(summary["status"] == "pushed")}
    for model, measured in (summary["models"] or {}).items():
        for key in ("accuracy", "loss", "calibration_error"):
            metrics[f"{model}_{key}"] = measured[key]["value"]
    if summary["verdict"]:
        metrics["fine_tuned_gain"] = summary["verdict"]["difference"]
    if summary["data"]:
        metrics["photos_accepted"] = float(sum(summary["data"]["accepted"].values()))
        metrics["photos_rejected"] = float(sum(summary["data"]["rejected"].values()))
    return metrics
