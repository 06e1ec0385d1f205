"""Housekeeping: removes from a root folder what nobody needs any more, and tells ML Metadata first.

How long something is kept goes by its last use: the newest run that made it, took it from the cache or read it. A run
that finds everything in the cache makes nothing, and needs all of it. So what a step made is removed when nothing has
used it for `retention.days`, and it is needed neither

- by a run that the next one goes on from: the newest, the newest that came to its end, and the newest in which each
  step succeeded. All that they read and made stays, and so does the ingestion of the earlier spans of their windows;
- by a version in `serving/`, so also by every pinned one: all that the run behind it read and made, but photos,
  vectors and predictions (`Examples`);
- to know which version was pushed last.

DriftGate's verdict on a span stays with the span's vectors: a span is judged once, by those it came after.

What one execution of a step made is kept or removed as a whole: TFX's cache takes all of it or nothing. Only for a
version's sake may a part stay; the cache then passes over it.

Artifacts become DELETED in ML Metadata before their folders go, all at once. TFX's cache passes over an execution of
whose outputs one is not LIVE (tfx/orchestration/portable/cache_utils.py), and inputs are chosen among LIVE artifacts
only (.../input_resolution/channel_resolver.py), so that after a kill in between nothing points at nothing; the next
call removes what is left. An artifact that stays is not touched: the time of its last change is a part of the cache
keys of all steps that read it.

Needs ML Metadata's client and neither TFX nor TensorFlow.
"""

from deploy.housekeeping.cleaning import REMOVED_FILE, CleaningResult, clean, clean_root, configured_days
from deploy.housekeeping.removals import KEYS_FILE, Removal

__all__ = ["KEYS_FILE", "REMOVED_FILE", "CleaningResult", "Removal", "clean", "clean_root", "configured_days"]
