"""Errors of play that are shown to the user."""

from http import HTTPStatus


class UsageError(ValueError):
    """Invalid command line, checkpoint, dataset or clip; the message is printed by the command."""


class RequestError(ValueError):
    """Invalid request; the message is shown on the page.

    Args:
        message: what is wrong and what to do next, without a full stop.
        status: status of the HTTP response.

    Example:
        >>> RequestError("seed must be an integer").status.value
        400
    """

    def __init__(self, message: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(message)
        self.status = status
