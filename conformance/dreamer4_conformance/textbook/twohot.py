"""To be written."""


class TwoHot:
    """To be written."""
