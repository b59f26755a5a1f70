"""Interactive play in the world model on a local web page; the command is `dreamer4-play`."""
