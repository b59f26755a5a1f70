"""A local web page on which a person plays in the world model; the command is `dreamer4-play`."""
