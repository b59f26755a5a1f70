"""To be written."""


class MultiToken:
    """To be written."""
