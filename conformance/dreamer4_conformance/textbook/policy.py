"""To be written."""


class Policy:
    """To be written."""
