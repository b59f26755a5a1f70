"""Masks as tables of squares, computed by the reference: rows are queries, columns are keys."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from docs.generator.figures.style import BLUE, FAINT, INK, in_page_colours
from dreamer4_reference.sec31_masks import Kind, modality_mask
from dreamer4_reference.sec34_attention import attention_mask

CELL, MARGIN, HEAD = 22, 96, 86


def frames_mask(kind: Kind, tokens: Sequence[tuple[str, str]], frames: int) -> str:
    """SVG of the mask of several frames.

    Args:
        kind: "encoder", "decoder" or "dynamics".
        tokens: (modality, label) of each token of a frame.
        frames: number of frames.
    """
    modality = [name for _ in range(frames) for name, _ in tokens]
    labels = [text for _ in range(frames) for _, text in tokens]
    frame = np.repeat(np.arange(frames), len(tokens))
    mask = modality_mask(kind, modality, frame)
    return table(mask, labels, f"mask-{kind}-{frames}", group=len(tokens), groups=[f"frame {t}" for t in range(frames)])


def window_mask(frames: int, window: int) -> str:
    """SVG of the window of a time layer over frames.

    Args:
        frames: number of frames.
        window: C, the frame itself included.
    """
    mask = attention_mask(frames, frames, causal=True, window=window)
    return table(mask, [f"t = {t}" for t in range(frames)], "mask-window", group=frames, groups=[""])


def table(mask: np.ndarray, labels: Sequence[str], name: str, *, group: int, groups: Sequence[str]) -> str:
    """SVG of a boolean matrix: filled squares with a dot are True, empty ones False.

    Args:
        mask: bool, (N, N), rows are queries.
        labels: of the N tokens.
        name: of the figure.
        group: tokens per frame; a line separates frames.
        groups: names of the frames.
    """
    size = len(labels) * CELL
    top, left = HEAD + 18, MARGIN + 18
    body = [_cell(int(i), int(j), bool(mask[i, j]), left, top) for i, j in np.ndindex(mask.shape)]
    for i, text in enumerate(labels):
        middle = (i + 0.5) * CELL
        body.append(_text(left - 6, top + middle + 4, text, anchor="end"))
        body.append(_text(0, 0, text, transform=f"translate({left + middle + 4} {top - 6}) rotate(-90)"))
    for number, text in enumerate(groups):
        start, middle = number * group * CELL, (number + 0.5) * group * CELL
        body.append(_text(left + middle, 12, text, anchor="middle", weight="bold"))
        body.append(
            _text(0, 0, text, transform=f"translate(12 {top + middle}) rotate(-90)", anchor="middle", weight="bold")
        )
        if number:
            body.append(_line(left + start, top, left + start, top + size))
            body.append(_line(left, top + start, left + size, top + start))
    width, height = left + size + 4, top + size + 4
    return in_page_colours(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f'<g font-family="sans-serif" font-size="12" fill="{INK}">{"".join(body)}</g></svg>',
        name,
    )


def _cell(i: int, j: int, visible: bool, left: int, top: int) -> str:
    x, y = left + j * CELL, top + i * CELL
    fill = f'fill="{BLUE}" fill-opacity="0.85"' if visible else 'fill="none"'
    square = f'<rect x="{x + 1}" y="{y + 1}" width="{CELL - 2}" height="{CELL - 2}" rx="3" {fill} stroke="{FAINT}"/>'
    if not visible:
        return square
    return (
        square + f'<circle cx="{x + CELL / 2}" cy="{y + CELL / 2}" r="3" fill="var(--color-background-primary, #fff)"/>'
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal", transform: str = "") -> str:
    placed = f'transform="{transform}"' if transform else f'x="{x}" y="{y}"'
    return f'<text {placed} text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{INK}" stroke-width="2"/>'
