"""To be written."""


class Sampler:
    """To be written."""
