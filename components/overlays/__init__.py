"""Masks as pictures: colours by class id, tints over photos, and PNG whose palette shows the classes."""
