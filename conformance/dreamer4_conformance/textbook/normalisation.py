"""To be written."""


class Normalisation:
    """To be written."""
