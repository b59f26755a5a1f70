"""Latents of a dataset's frames, encoded once and memory-mapped.

Each episode is encoded from its first frame, in blocks of frames with the encoder's cache, so that every frame attends
to all earlier frames that the causal tokenizer allows, as in play. The latents of a clip therefore differ from those of
encoding the clip alone, whose first frames have no past; and the latent of a frame that is treated as a separate image
differs from that of encoding the image alone.

    DIR/latents.json    format, version, fingerprint of the tokenizer
    DIR/<key>.npy       (N, S, D), one for each shard; the key is a digest of its content, so datasets may share DIR.
                        After the array follows the BLAKE2b digest of all bytes before it.

Several processes may use the same directory: each writes complete files under unique names and renames them.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from dreamer4_impl.arguments import require_option
from dreamer4_impl.data.dataset import Dataset
from dreamer4_impl.data.format import DatasetError
from dreamer4_impl.data.progress import OnFrames, counted_from, ignore
from dreamer4_impl.data.shards import OpenShard
from dreamer4_impl.durable import DAMAGED_ARRAY, DirectoryLock, checksum, read_json, replacement, write_text
from dreamer4_impl.models.tokenizer import Tokenizer

FORMAT = "dreamer4-latents"
VERSION = 1
HEADER = "latents.json"
DIGEST = 64
"""Bytes of the digest at the end of a file."""


class LatentCache:
    """Latents of all shards of a dataset; they also serve subsets of it and datasets joined from it.

    Shards without latents are encoded; an interrupted or damaged shard is encoded again.

    Args:
        path: directory, made if missing. One with latents of another tokenizer is refused with a DatasetError.
        dataset: source of the frames.
        tokenizer: on any device.
        dtype: dtype of the stored latents.
        block: frames per call of the encoder, 1 or more.
        progress: called with the number of encoded frames after each block.

    Attributes:
        fingerprint: digest of the tokenizer.
    """

    def __init__(
        self,
        path: Path | str,
        dataset: Dataset,
        tokenizer: Tokenizer,
        dtype: Literal["float16", "float32"] = "float16",
        block: int = 64,
        progress: OnFrames = ignore,
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
                _encode_shard(shard, file, tokenizer, dtype, block, counted_from(done, progress))
                self._map(shard, file, tokenizer)
            done += len(shard.arrays["first"])
            progress(done)

    def clip(self, dataset: Dataset, episode: int, start: int, length: int) -> Float32[np.ndarray, "T S D"]:
        """Cut latents of rows start, …, start + length − 1 out of an episode.

        Args:
            dataset: dataset with the encoded shards: the encoded dataset or a subset of it.
            episode: index into its episodes, from 0.
            start: first frame, from 0.
            length: T, 1 or more.

        Returns:
            Latents, (T, S, D).

        Raises:
            DatasetError: if the shard of the episode was not encoded.
            ValueError: if a row lies outside the episode.
        """
        source = dataset.episodes[episode]
        if start < 0 or length < 1 or start + length > source.length:
            raise ValueError(
                f"start and length must lie in episode {episode} of {source.length} frames; got {start} and {length}"
            )
        array = self._arrays.get(_key(dataset.shards[source.shard]))
        if array is None:
            raise DatasetError(f"{self.path} holds no latents of the dataset {dataset.name!r}: encode its frames first")
        rows = slice(source.start + start, source.start + start + length)
        return array[rows].astype(np.float32)

    def _claim(self) -> None:
        """Write the tokenizer's fingerprint, or compare it with the existing one."""
        file = self.path / HEADER
        content = {"format": FORMAT, "version": VERSION, "tokenizer": self.fingerprint}
        with DirectoryLock(self.path, patience=60):
            if not file.exists():
                write_text(file, json.dumps(content))
        try:
            existing = read_json(file)
        except ValueError as error:
            raise DatasetError(f"{file} cannot be read: {error}; delete {self.path} to encode again") from error
        if existing != content:
            raise DatasetError(
                f"{self.path} holds latents of another tokenizer or format: {existing}; needed is {content}. "
                "Delete the directory, or name another one"
            )

    def _map(self, shard: OpenShard, file: Path, tokenizer: Tokenizer) -> bool:
        """Map the latents of a shard; False if they are missing or damaged."""
        try:
            array = np.load(file, mmap_mode="r", allow_pickle=False)
            if not _is_intact(file):
                return False
        except DAMAGED_ARRAY:
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
    progress: OnFrames = ignore,
) -> Float[Tensor, "T S D"]:
    """Encode an episode with the encoder's cache.

    Args:
        tokenizer: on any device.
        frames: all frames of the episode, values in [0, 255], uint8, (T, H, W, C).
        block: frames per call of the encoder, 1 or more; it changes results by rounding only.
        progress: called with the number of encoded frames after each block.

    Returns:
        Latents on the CPU, in the dtype of the tokenizer's parameters, without gradient.

    Example:
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
    """Digest everything that latents depend on: the encoder, the mean frame, and origin and unit of z.

    Args:
        tokenizer: on any device.

    Returns:
        32 hexadecimal digits. The decoder, the device and the backend of attention do not change them.
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
    """Digest of the frames of a shard and the first rows of its episodes."""
    sums = shard.entry.checksums
    return hashlib.blake2b(f"{sums['frames.npy']} {sums['first.npy']}".encode(), digest_size=16).hexdigest()


def _encode_shard(
    shard: OpenShard, file: Path, tokenizer: Tokenizer, dtype: str, block: int, progress: OnFrames
) -> None:
    """Encode every episode of a shard, and write the latents with their digest."""
    frames = shard.arrays["frames"]
    starts = np.flatnonzero(shard.arrays["first"]).tolist()
    config = tokenizer.config
    shape = (len(frames), config.spatial_tokens, config.spatial_channels)
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    with replacement(file) as partial:
        # Not memory-mapped: on a full disk a mapped write ends the process with SIGBUS.
        with partial.open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            for start, end in zip(starts, [*starts[1:], len(frames)], strict=True):
                z = encode_episode(tokenizer, frames[start:end], block, counted_from(start, progress))
                stream.write(z.to(torch.float32).numpy().astype(dtype).tobytes())
        digest = checksum(partial)
        with partial.open("ab") as stream:
            stream.write(bytes.fromhex(digest))


def _is_intact(file: Path) -> bool:
    """Compare the digest at the end of a file with its content."""
    size = file.stat().st_size - DIGEST
    digest = hashlib.blake2b()
    with file.open("rb") as stream:
        while size > 0 and (block := stream.read(min(size, 2**20))):
            digest.update(block)
            size -= len(block)
        return stream.read() == digest.digest()
