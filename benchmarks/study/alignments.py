"""The alignment of both modalities of a held-out sequence, estimated once for all variants."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from rgbt_fusion.alignment.aligned_frames import AlignedFrames
from rgbt_fusion.alignment.estimate import Alignment, align_source
from rgbt_fusion.files.text_tables import DataError, read_text
from rgbt_fusion.files.whole import write_json

__all__ = ["aligned_groups", "digest", "kept_alignment"]


def kept_alignment(sequence: Any, folder: Path) -> Alignment:
    """Return what ``track --align auto`` finds in a sequence, and keep it in a file.

    A later call reads the file.

    Args:
        sequence: pairs of frames with a name.
        folder: where the file is, or will be.

    Raises:
        DataError: the file holds no alignment.
    """
    path = folder / f"{sequence.name}.json"
    if not path.exists():
        found = asdict(align_source(sequence))
        found["tir_from_rgb"] = found["tir_from_rgb"].tolist()
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, found)
    try:
        known = json.loads(read_text(path))
        matrix = np.array(known.pop("tir_from_rgb"), dtype=np.float64).reshape(3, 3)
        return Alignment(tir_from_rgb=matrix, **known)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{path} must hold an alignment: {error}") from None


def aligned_groups(
    groups: Mapping[str, tuple[Any, ...]], alignments: Mapping[str, Alignment]
) -> dict[str, tuple[AlignedFrames, ...]]:
    """Return sequences with the thermal frames laid on the colour frames.

    A sequence whose alignment is not sure stays as it is.

    Args:
        groups: sequences by challenge.
        alignments: the alignment of each sequence, by its name.
    """
    return {
        challenge: tuple(AlignedFrames(one, alignments[one.name]) for one in members)
        for challenge, members in groups.items()
    }


def digest(alignments: Mapping[str, Alignment]) -> str:
    """Return a hash that tells these alignments from any others."""
    content = sha256()
    for name, one in sorted(alignments.items()):
        content.update(name.encode())
        content.update(one.tir_from_rgb.tobytes())
        content.update(f"{one.offset_frames} {one.sure}".encode())
    return content.hexdigest()
