"""Two cameras on one computer: which way of sharing its cores gives the most frames per second.

    python benchmarks/cameras.py [--quick] [--json PATH]

From a 1920x1200 picture to its label map at network size, the shipped bundle, engine `auto`. Every
way runs for the same time in each round, and every round in another order: what ran before leaves
caches and a clock behind. Medians; `lowest_per_s` and `highest_per_s` are single rounds.

one camera       every frame by an engine that has all cores: what one camera gets at best
interleaved      the cameras' frames in turn by that engine
batched          both frames as one batch by that engine
a thread each    two threads share that engine: one prepares and decodes while the other infers
a stream a core  two threads run the engine at the same time, each with half of the cores

One camera and interleaved do the same work: how far they are apart is noise.

The node does the last or interleaves, whichever gave more frames at its first start.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
import random
import statistics
import threading
import time
from typing import Any

import numpy as np
from report import ROOT, arguments, finish

from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.decode import Decoder
from offroad_seg_core.inference.engines import (
    ENGINES,
    Engine,
    EngineOutput,
    EngineSettings,
    LabelEngine,
    create_engine,
    warm_up,
)
from offroad_seg_core.inference.head import HeadInputs
from offroad_seg_core.inference.preprocess import Geometry, Preprocessor
from offroad_seg_core.memory import keep_freed_memory
from offroad_seg_core.world import DEMO_SEED, Drive

CAMERA_SIZE = (1200, 1920)


@dataclass
class Camera:
    """One camera's picture and the buffers that belong to it."""

    bundle: Bundle
    image: np.ndarray
    preprocessor: Preprocessor = field(init=False)
    decoder: Decoder = field(init=False)

    def __post_init__(self) -> None:
        self.preprocessor = Preprocessor(self.bundle.manifest.input)
        self.decoder = Decoder(self.bundle.manifest.input.size)

    def prepare(self) -> np.ndarray:
        """Return the batch of one."""
        geometry = Geometry.fit(self.image.shape[:2], 0, self.bundle.manifest.input)
        return self.preprocessor.prepare(self.image, 'bgr', geometry)

    def decode(self, output: EngineOutput) -> None:
        """Make the label map at network size."""
        self.decoder.label_map(output, range(self.bundle.taxonomy.num_classes))

    def segment(self, engine: Engine, lock: Any) -> None:
        """Do all of it; the lock is held while the engine runs and its output is valid."""
        batch = self.prepare()
        with lock:
            self.decode(infer(engine, batch))


def infer(engine: Engine, batch: np.ndarray) -> EngineOutput:
    """Run for labels where the graph gives them."""
    if engine.info.gives_labels:
        assert isinstance(engine, LabelEngine)
        return engine.run_labels(batch, HeadInputs(np.zeros(engine.info.num_classes, np.float32)))
    return engine.run(batch)


def part(output: EngineOutput, index: int) -> EngineOutput:
    """Return one image's part of a batch's output."""
    arrays = output.logits, output.label_map, output.confidence
    return EngineOutput(*(None if array is None else array[index : index + 1] for array in arrays))


def batched(engine: Engine, cameras: list[Camera]) -> None:
    """Segment one frame of every camera as one batch."""
    output = infer(engine, np.concatenate([camera.prepare() for camera in cameras]))
    for index, camera in enumerate(cameras):
        camera.decode(part(output, index))


def frames_per_second(works: list[Callable[[], int]], duration_s: float) -> float:
    """Repeat each work in a thread of its own; works return how many frames they segmented."""
    begin, end = threading.Barrier(len(works)), time.monotonic() + duration_s

    def repeat(work: Callable[[], int]) -> tuple[int, float]:
        begin.wait()
        started, count = time.monotonic(), 0
        while time.monotonic() < end:
            count += work()
        return count, time.monotonic() - started

    with ThreadPoolExecutor(len(works)) as pool:
        done = list(pool.map(repeat, works))
    return sum(count / elapsed_s for count, elapsed_s in done)


def ways(bundle: Bundle, cameras: list[Camera]) -> dict[str, list[Callable[[], int]]]:
    """Return what the threads of each way do."""
    whole = create_engine(bundle)
    settings = EngineSettings(whole.info.precision, num_streams=len(cameras))
    streams = ENGINES[whole.info.name](bundle, settings)
    for engine in (whole, streams):
        warm_up(engine, bundle.manifest.input.size)
    shared = threading.Lock()

    def one() -> int:
        cameras[0].segment(whole, shared)
        return 1

    def in_turn() -> int:
        for camera in cameras:
            camera.segment(whole, shared)
        return len(cameras)

    def both() -> int:
        batched(whole, cameras)
        return len(cameras)

    def alone(camera: Camera, engine: Engine, lock: Any) -> Callable[[], int]:
        def work() -> int:
            camera.segment(engine, lock)
            return 1

        return work

    return {
        'one camera': [one],
        'interleaved': [in_turn],
        'batched': [both],
        'a thread each': [alone(camera, whole, shared) for camera in cameras],
        'a stream a core': [alone(camera, streams, nullcontext()) for camera in cameras],
    }


def in_rounds(names: list[str], rounds: int) -> list[list[str]]:
    """Return the order of every round, the same ones in every run.

    Shuffled: in a list that is only rotated each way keeps the one it follows.
    """
    generator = random.Random(0)
    return [generator.sample(names, len(names)) for _ in range(rounds)]


def main() -> None:
    """Measure every way in turn."""
    options = arguments(__doc__)
    keep_freed_memory()
    bundle = Bundle.load(ROOT / 'models' / 'demo_desert')
    drive = Drive(DEMO_SEED, 2, size=CAMERA_SIZE)
    frames = [drive.frame(1, camera).frame.image_rgb for camera in drive.cameras]
    cameras = [Camera(bundle, np.ascontiguousarray(frame[:, :, ::-1])) for frame in frames]
    found = ways(bundle, cameras)
    rounds, duration_s = (2, 1.0) if options.quick else (9, 4.0)
    measured: dict[str, list[float]] = {name: [] for name in found}
    for works in found.values():
        frames_per_second(works, duration_s / 4)  # compiles the batch, fills the caches
    for order in in_rounds(list(found), rounds):
        for name in order:
            measured[name].append(frames_per_second(found[name], duration_s))
    rates = {name: statistics.median(values) for name, values in measured.items()}
    rows = [
        {
            'way': name,
            'frames_per_s': rates[name],
            'lowest_per_s': min(values),
            'highest_per_s': max(values),
        }
        for name, values in measured.items()
    ]
    best = max(rate for name, rate in rates.items() if name != 'one camera')
    finish('cameras', options, rows, {'two_cameras_vs_one': best / rates['one camera']})


if __name__ == '__main__':
    main()
