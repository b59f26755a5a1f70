"""The model that `dreamer4-play` opens without arguments, with a clip to start from, in the folder `model`."""
