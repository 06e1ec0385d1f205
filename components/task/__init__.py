"""What depends on the task, a class for each photo or a class for each pixel, behind small protocols.

- `judging`: how stored answers are scored and compared, for gates, summaries and pages
- `training`: what sits on the backbone, and what it is fed with
"""
