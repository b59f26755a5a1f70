"""Layers and embeddings of the models."""
