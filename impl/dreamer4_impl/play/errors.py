"""What was asked for cannot be done; the message is a sentence for whoever asked."""

from http import HTTPStatus


class UsageError(ValueError):
    """The command line asks for something that is not there."""


class RequestError(ValueError):
    """A request asks for something that is not there.

    Args:
        sentence: what is wrong, and what to do next.
        status: of the HTTP response.

    >>> RequestError("seed must be a whole number").status.value
    400
    """

    def __init__(self, sentence: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(sentence)
        self.status = status
