"""From parameters to an open segmenter and the cameras' views."""

from __future__ import annotations

from contextlib import ExitStack
import os
from pathlib import Path

import cv2
import numpy as np

from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines import create_engine
from offroad_seg_core.inference.preprocess import CameraView
from offroad_seg_core.inference.segmenter import Segmenter, SegmenterOptions
from offroad_seg_core.taxonomy import load_cost_overrides
from offroad_seg_ros.params import NodeParams, ParameterError, parse_output_size


def open_segmenter(
    params: NodeParams,
    costs: dict[str, int],
    num_streams: int = 1,
    for_throughput: bool = False,
) -> Segmenter:
    """Load the bundle and its engine, warmed up at every size that it will be asked for.

    Args:
        params: all parameters.
        costs: this robot's own, see cost_overrides.
        num_streams: threads that want to run it at the same time, see create_engine.
        for_throughput: see create_engine.

    Raises:
        ParameterError: no bundle is named.
        ValueError: the bundle, a class name or a cost is wrong.
        EngineError: no engine can run it.
    """
    if not params.bundle:
        raise ParameterError.of(
            'bundle',
            params.bundle,
            'the folder of a model bundle',
            'start with bundle:=DIR (launch) or -p bundle:=DIR, or set it now with '
            '`ros2 param set /segmentation_node bundle DIR` and configure again',
        )
    bundle = Bundle.load(params.bundle)
    folder = Path(params.engine_cache).expanduser() if params.engine_cache else None
    engine = create_engine(
        bundle,
        params.engine,
        params.precision,
        params.num_threads,
        folder,
        params.fallback,
        num_streams=num_streams,
        for_throughput=for_throughput,
    )
    with ExitStack() as owned:  # closed if a later step fails
        owned.callback(engine.close)
        options = segmenter_options(params, costs)
        segmenter = Segmenter(bundle, engine, options, cache_folder=folder)
        segmenter.open_views()
        owned.pop_all()
    return segmenter


def wanted_streams(params: NodeParams) -> int:
    """Return how many cameras are to be served at the same time, if that gives more frames."""
    cores = params.num_threads or len(os.sched_getaffinity(0))
    num_cameras = len(params.cameras)
    return min(num_cameras, params.num_streams or num_cameras, cores)


def cost_overrides(params: NodeParams) -> dict[str, int]:
    """Read this robot's costs, if it has its own."""
    if not params.cost_overrides_file:
        return {}
    return load_cost_overrides(Path(params.cost_overrides_file).expanduser())


def segmenter_options(params: NodeParams, costs: dict[str, int]) -> SegmenterOptions:
    """Return the segmenter's part of the parameters."""
    return SegmenterOptions(
        tta=params.tta,
        deadline_ms=params.deadline_ms,
        absent_classes=params.absent_classes,
        confidence_threshold=params.confidence_threshold,
        cost_overrides=costs,
        output_size=parse_output_size(params.output_size),
    )


def camera_views(params: NodeParams) -> dict[str, CameraView]:
    """Return each camera's view; ParameterError for an ego mask that cannot be read."""
    return {
        name: CameraView(view.rotation_deg, _read_ego_mask(name, view.ego_mask))
        for name, view in params.views.items()
    }


def _read_ego_mask(camera: str, path: str) -> np.ndarray | None:
    if not path:
        return None
    mask = cv2.imread(str(Path(path).expanduser()), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        fix = 'give the path of a PNG at camera size, non-zero where the robot sees itself'
        raise ParameterError.of(f'{camera}.ego_mask', path, 'a readable picture', fix)
    return mask > 0
