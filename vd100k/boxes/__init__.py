"""Bounding boxes: our own form of them, the notations of the model families, and how well boxes agree."""
