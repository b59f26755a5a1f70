"""Frames from a trained model: rollouts, interactive decoding, imagination."""
