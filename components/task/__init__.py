"""What depends on the task, a class for each photo or one for each pixel, behind one small protocol for each side.

- `training`: what a trainer learns on a backbone
- `judging`: how stored answers are scored and compared, for gates, summaries and pages
"""
