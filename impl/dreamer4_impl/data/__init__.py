"""Recorded play on disk, and batches of it: datasets, recording, clips, videos, cached latents."""
