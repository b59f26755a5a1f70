"""Layers and embeddings that the models are built from."""
