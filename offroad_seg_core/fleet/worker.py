"""What runs on each node of a cluster: evaluates chunks with an engine that stays open."""

from __future__ import annotations

from dataclasses import replace
import os
import pickle
from typing import Any

import cv2

from offroad_seg_core.evaluation.evaluate import Evaluation, do_parts
from offroad_seg_core.evaluation.parts import Unfinished
from offroad_seg_core.evaluation.sources.frame import Source
from offroad_seg_core.files import scratch_folder
from offroad_seg_core.fleet.chunks import Chunk, pack, part_of
from offroad_seg_core.memory import keep_freed_memory
from offroad_seg_core.provenance import label_versions

REFERENCE = 'reference '
"""Before what the labels of the reference depend on."""


class Worker:
    """Evaluates chunks, one after another; an actor of the cluster.

    Args:
        content: The evaluation, pickled, without its source.
        num_threads: Cores that it may use.
    """

    def __init__(self, content: bytes, num_threads: int) -> None:
        self._content, self._num_threads = content, num_threads

    def open(self) -> dict[str, Any]:
        """Open the engines and return ``models_identity``; EngineError if one cannot."""
        os.environ['OMP_NUM_THREADS'] = str(self._num_threads)  # before PyTorch is loaded
        cv2.setNumThreads(self._num_threads)
        keep_freed_memory()
        self._evaluation: Evaluation = pickle.loads(self._content)
        return models_identity(self._evaluation)

    def run(self, source: Source, chunk: Chunk) -> bytes:
        """Evaluate a chunk; return all that came of it as an archive. Errors: see evaluate.

        Args:
            source: Of the chunk's drive.
            chunk: Which of its parts.
        """
        with scratch_folder() as home:
            output = home / 'chunk'
            evaluation = replace(self._evaluation, source=part_of(source, chunk), output=output)
            unfinished = Unfinished(output, {}, restart=False)
            try:
                do_parts(evaluation, unfinished, lambda count: None)
            except ValueError:
                source.identity()  # an OSError where its files are not there: others may have them
                raise
            return pack(unfinished.folder)


def models_identity(evaluation: Evaluation) -> dict[str, Any]:
    """Return what labels of the model, and of the reference if there is one, depend on here."""
    identity = {**label_versions(), **evaluation.predictor.identity()}
    if evaluation.reference is not None:
        theirs = evaluation.reference.identity()
        identity |= {f'{REFERENCE}{key}': value for key, value in theirs.items()}
    return identity
