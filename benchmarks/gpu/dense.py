"""Dense attention over all tokens of past frames, as in the first rows of the paper's table 2; one new frame at a time.

    each token of the frame attends to every token of the frames in the cache, the frame itself included

The models of this project have only the factorised form of the last rows, where a token sees only its own position.
"""

from jaxtyping import Float
from torch import Tensor

from dreamer4_impl.attention import Preparation, Visible, attention
from dreamer4_impl.layers.rope import Rotation
from dreamer4_impl.models.dynamics import Dynamics
from dreamer4_impl.models.transformer import Past, SelfAttention


class DenseAttention(SelfAttention):
    """`SelfAttention` of a time layer over its ring of C frames as one sequence of C·S keys; positions count frames."""

    def forward(
        self, x: Float[Tensor, "B 1 S D"], angles: Rotation, visible: Visible, past: Past | None = None
    ) -> Float[Tensor, "B 1 S D"]:
        """Attention of one new frame to the cached frames, as `FrameDecoder` calls it.

        Raises:
            NotImplementedError: without a cache.
        """
        if past is None or visible.filled is None:
            raise NotImplementedError("dense attention is for one frame after a cache; got none")
        config, space = self.config, x.shape[2]
        q, k, v = (self._heads(x @ weight) for weight in (self.wq, self.wk, self.wv))
        new = Preparation(self.k_gain, config.norm_eps, angles)
        ring = past.cache.extend(past.layer, k, v, new, commit=past.commit, backend=config.backend)
        keys, values = (slots.flatten(1, 2)[:, None] for slots in ring)
        everywhere = angles[0].expand(space, -1), angles[1].expand(space, -1)
        out = attention(
            q,
            keys,
            values,
            axis="space",
            softcap=config.softcap,
            filled=visible.filled * space,
            preparation=Preparation(self.q_gain, config.norm_eps, everywhere),
            backend=config.backend,
        )
        return out.flatten(3) @ self.wo


def attend_densely(model: Dynamics) -> None:
    """Replace the attention of the time layers by dense attention with new weights."""
    for layer in model.transformer.layers:
        if layer.kind == "time":
            layer.attention = DenseAttention(model.transformer.config, "time")
