"""Latents of a dataset's frames, encoded once and memory-mapped.

Each episode is encoded from its first frame on, in blocks of frames with the encoder's cache: every frame sees all that the
causal tokenizer lets it see of its episode, as in play, wherever a clip begins later. So the latents of a clip are not quite
those of encoding that clip alone, whose first frames would see nothing before them; nor is the latent of a frame that is
treated as a separate image that of encoding the image alone.

    DIR/latents.json    format, version, fingerprint of the tokenizer
    DIR/<key>.npy       (N, S, D), one for each shard of frames, by its content: several datasets may share a directory
"""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from dreamer4_impl.arguments import require_option
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.data.format import DatasetError, sync
from dreamer4_impl.data.progress import Told, after, nobody
from dreamer4_impl.data.shards import OpenShard
from dreamer4_impl.models.tokenizer import Tokenizer

FORMAT = "dreamer4-latents"
VERSION = 1
HEADER = "latents.json"


class LatentCache:
    """Latents of the frames of a dataset, and of the datasets that it was split or put together from.

    What the directory lacks is encoded; what a shard's encoding was interrupted in begins anew with that shard.

    Args:
        path: the directory, made where it is missing. One that holds another tokenizer's latents is refused.
        dataset: whose frames.
        tokenizer: on any device.
        dtype: in which latents are stored; they lie in [−1, 1].
        block: frames that are encoded at once.
        progress: told how many frames of the dataset's shards are encoded, after each block.

    Attributes:
        fingerprint: of the tokenizer.
    """

    def __init__(
        self,
        path: Path | str,
        dataset: Dataset,
        tokenizer: Tokenizer,
        dtype: Literal["float16", "float32"] = "float16",
        block: int = 64,
        progress: Told = nobody,
    ) -> None:
        require_option("dtype", dtype, ("float16", "float32"))
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        self.fingerprint = fingerprint(tokenizer)
        self._claim()
        self._arrays: dict[str, np.ndarray[Any, Any]] = {}
        done = 0
        for shard in dataset.shards:
            file = self.path / f"{_key(shard)}.npy"
            if not self._map(shard, file, tokenizer):
                _encode_shard(shard, file, tokenizer, dtype, block, after(done, progress))
                self._map(shard, file, tokenizer)
            done += len(shard.arrays["first"])
            progress(done)

    def clip(self, dataset: Dataset, episode: int, start: int, length: int) -> Float32[np.ndarray, "T S D"]:
        """Latents of rows start, …, start + length − 1 of an episode of a dataset whose frames are here.

        Args:
            dataset: that whose frames were encoded, or what it was split into.
            episode, start, length: as for `Dataset.clip`.
        """
        whole = dataset.episodes[episode]
        array = self._arrays.get(_key(dataset.shards[whole.shard]))
        if array is None:
            raise DatasetError(f"{self.path} holds no latents of the dataset {dataset.name!r}: encode its frames first")
        rows = slice(whole.start + start, whole.start + start + length)
        return array[rows].astype(np.float32)

    def _claim(self) -> None:
        """Write whose latents these are, or read it and compare."""
        file = self.path / HEADER
        content = {"format": FORMAT, "version": VERSION, "tokenizer": self.fingerprint}
        if not file.exists():
            beside = self.path / f".{HEADER}.{os.getpid()}.partial"
            beside.write_text(json.dumps(content))
            sync(beside)
            beside.replace(file)
        try:
            found = json.loads(file.read_text())
        except ValueError as error:
            raise DatasetError(f"{file} cannot be read: {error}; delete {self.path} to encode anew") from error
        if found != content:
            raise DatasetError(
                f"{self.path} holds latents of another tokenizer or format: {found}; needed is {content}. "
                "Delete the directory, or name another one"
            )

    def _map(self, shard: OpenShard, file: Path, tokenizer: Tokenizer) -> bool:
        """Map the latents of a shard, unless they are missing or not whole."""
        try:
            array = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return False
        config = tokenizer.config
        shape = (len(shard.arrays["first"]), config.spatial_tokens, config.spatial_channels)
        if array.shape != shape or array.dtype.name not in ("float16", "float32"):
            return False
        self._arrays[_key(shard)] = array
        return True


@torch.no_grad()
def encode_episode(
    tokenizer: Tokenizer,
    frames: UInt8[np.ndarray, "T H W C"],
    block: int = 64,
    progress: Told = nobody,
) -> Float[Tensor, "T S D"]:
    """Latents of an episode, on the CPU in the dtype of the tokenizer's parameters; no gradient.

    Args:
        tokenizer: on any device.
        frames: all of them, from the first on.
        block: frames encoded at once; up to rounding it changes nothing.
        progress: told how many frames are encoded, after each block.

    >>> from dreamer4_impl.models.presets import tiny
    >>> encode_episode(Tokenizer(tiny().tokenizer), np.zeros((9, 6, 8, 3), np.uint8), block=4).shape
    torch.Size([9, 5, 6])
    """
    parameter = next(tokenizer.parameters())
    cache = tokenizer.encoder_cache(1)
    encoded = []
    for start in range(0, len(frames), block):
        video = torch.from_numpy(np.array(frames[None, start : start + block])).to(parameter.device)
        encoded.append(tokenizer.encode(video.to(parameter.dtype) / 255, cache=cache)[0].cpu())
        progress(min(start + block, len(frames)))
    return torch.cat(encoded)


def fingerprint(tokenizer: Tokenizer) -> str:
    """A digest of all that latents depend on: parameters and configuration of the encoder, and its mean frame.

    The decoder, the device and the backend of attention do not count.
    """
    config = tokenizer.config
    digest = hashlib.blake2b(digest_size=16)
    described = (replace(config.encoder, backend="eager"), config.patch, config.spatial_tokens, config.standardise)
    digest.update(repr(described).encode())
    for name, value in sorted(tokenizer.state_dict().items()):
        if not name.startswith("decoder."):
            value = value.detach().cpu().contiguous()
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _key(shard: OpenShard) -> str:
    """Names frames and where their episodes begin, by content."""
    sums = shard.entry.checksums
    return hashlib.blake2b(f"{sums['frames.npy']} {sums['first.npy']}".encode(), digest_size=16).hexdigest()


def _encode_shard(shard: OpenShard, file: Path, tokenizer: Tokenizer, dtype: str, block: int, progress: Told) -> None:
    """Encode every episode of a shard into a file beside, and put it in place."""
    frames = shard.arrays["frames"]
    starts = np.flatnonzero(shard.arrays["first"]).tolist()
    config = tokenizer.config
    shape = (len(frames), config.spatial_tokens, config.spatial_channels)
    beside = file.with_suffix(f".{os.getpid()}.partial")
    array = np.lib.format.open_memmap(beside, "w+", np.dtype(dtype), shape)
    for start, end in zip(starts, [*starts[1:], len(frames)], strict=True):
        z = encode_episode(tokenizer, frames[start:end], block, after(start, progress))
        array[start:end] = z.to(torch.float32).numpy()
    array.flush()
    sync(beside)
    beside.replace(file)
