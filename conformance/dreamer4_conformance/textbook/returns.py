"""To be written."""


class Returns:
    """To be written."""
