"""Datasets of other projects as datasets of this one: Minari, VPT's contractor recordings, LeRobot."""
