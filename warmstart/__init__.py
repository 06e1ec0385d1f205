"""Turns folders of labelled photos into an image classifier in production, in three calls.

    import warmstart

    run = warmstart.run("photos", root="runs/photos")
    model = warmstart.load("runs/photos")
    answers = model.predict(["cat.jpg", "holiday/"])

They do what the commands `warmstart run` and `warmstart predict` do, refuse the same input with the same sentences, and
keep everything in the same root folder. TensorFlow is imported by the calls, not with this module.
"""

from deploy.answer import Answer
from schemas.errors import BadInput
from warmstart.model import Model, load
from warmstart.training import Run, run

__all__ = ["Answer", "BadInput", "Model", "Run", "load", "run"]
