"""Size and colour of the frames that are taken from pictures recorded elsewhere."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from dreamer4_impl.arguments import require_at_least
from dreamer4_impl.data.resizing import grey as to_grey
from dreamer4_impl.data.resizing import resize


@dataclass(frozen=True)
class FrameView:
    """Size and colour of frames.

    Args:
        height: pixels, 1 or more; the picture is stretched to the size.
        width: pixels, 1 or more.
        grey: one channel instead of three.

    Raises:
        ValueError: if a value is out of range.
    """

    height: int = 64
    width: int = 64
    grey: bool = False

    def __post_init__(self) -> None:
        require_at_least(1, height=self.height, width=self.width)

    @property
    def channels(self) -> int:
        """Channels of a frame.

        Returns:
            1 for grey frames, 3 for colour.
        """
        return 1 if self.grey else 3

    def frame(self, picture: UInt8[np.ndarray, "height width channels"]) -> UInt8[np.ndarray, "H W C"]:
        """Convert a picture to this size and colour.

        Args:
            picture: values in [0, 255]; one channel is grey, three are red, green and blue.

        Returns:
            The frame, values in [0, 255].

        Example:
            >>> FrameView(1, 2).frame(np.full((4, 4, 1), 7, np.uint8)).tolist()
            [[[7, 7, 7], [7, 7, 7]]]
        """
        if self.grey and picture.shape[2] == 3:
            picture = to_grey(picture)
        return resize(np.broadcast_to(picture, (*picture.shape[:2], self.channels)), self.height, self.width)
