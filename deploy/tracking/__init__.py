"""Tells an MLflow server about runs and about what is in production.

A process of its own speaks to the server (`client.py`), so that no answer of a server, or none, can harm a run.
"""
