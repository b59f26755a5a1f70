"""Small lossless videos for tests."""

from fractions import Fraction

import av
import numpy as np

CODECS = {".mp4": ("libx264rgb", "rgb24"), ".png": ("png", "rgb24")}


def film(path, frames=7, rate=10, size=(8, 16), times=None, level=lambda t: 20 * t):
    """Video whose frame t is black on the left and (level(t), 100, 0) on the right; `times` in milliseconds."""
    with av.open(str(path), "w") as container:
        codec, layout = CODECS.get(path.suffix, ("ffv1", "bgr0"))
        stream = container.add_stream(codec, rate=rate, options={"qp": "0"} if codec == "libx264rgb" else {})
        stream.width, stream.height, stream.pix_fmt = size[1], size[0], layout
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for t in range(frames):
            picture = np.zeros((*size, 3), np.uint8)
            picture[:, size[1] // 2 :] = (level(t), 100, 0)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=stream.pix_fmt)
            if times is not None:
                frame.pts, frame.time_base = times[t], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
