"""Backbones: image feature vectors in TF-Hub's SavedModel format.

- `registry`: which backbones are known by name, and cheap checks of a handle, all without TensorFlow
- `feature_vector`: a handle made into a local SavedModel, loaded and checked
- `efficientnet_lite`: the built-in architecture and its conversion from PyTorch weights
- `torch_checkpoint`: PyTorch's file format read without PyTorch
- `keras_applications`: VGG, ResNet, Inception and others of Keras exported as feature vectors
- `saved_feature_vector`: a Keras model written as a feature vector
"""

from components.backbone.registry import BACKBONES, Backbone, check_handle, fingerprint

__all__ = ["BACKBONES", "Backbone", "check_handle", "fingerprint"]
