"""Housekeeping: removes what is no longer needed from a root folder, and marks it in ML Metadata first.

Retention counts from the last use: the newest run that made something, took it from the cache or read it. A run that
finds everything in the cache makes nothing, yet needs all of it. So the outputs of a step are removed once nothing has
used them for `retention.days`, unless they are needed

- by a run that the next one continues from: the newest run, the newest that reached its end, and the newest in which
  each step succeeded. All that they read and made is kept, including the earlier spans of their windows;
- by a version in `serving/`, pinned or not: all that its run read and made, except photos, vectors and predictions
  (`Examples`);
- to know which version was pushed last.

DriftGate's verdict on a span is kept with the vectors of the span: a span is judged once, against the spans before it.

The outputs of one execution are kept or removed together, since TFX's cache uses all of them or none. Only for a
version may a part of them stay; the cache then ignores it.

Artifacts are marked DELETED in ML Metadata, all at once, before their folders are removed. TFX's cache ignores an
execution if one of its outputs is not LIVE (tfx/orchestration/portable/cache_utils.py), and only LIVE artifacts become
inputs (.../input_resolution/channel_resolver.py). So if the process is killed in between, nothing refers to a missing
folder, and the next call removes the rest. An artifact that is kept is not touched: the time of its last change is
part of the cache keys of all steps that read it.

Needs the client of ML Metadata, but neither TFX nor TensorFlow.
"""

from deploy.housekeeping.cleaning import REMOVED_FILE, CleaningResult, clean, clean_root, configured_days
from deploy.housekeeping.removals import KEYS_FILE, Removal

__all__ = ["KEYS_FILE", "REMOVED_FILE", "CleaningResult", "Removal", "clean", "clean_root", "configured_days"]
