"""The student on an NVIDIA GPU: fp16 in a CUDA graph against eager PyTorch and the other engines.

    python benchmarks/gpu.py [--quick] [--json PATH]

The shipped bundle's network; its cost does not depend on the weights. Two ways are timed, both
from memory of the host to labels there, in turn:

network     8-bit images of the network's size (batch 1 and 2) to label maps of that size
end to end  one 1920x1200 bgr8 camera image through the segmenter (resize on the CPU, the engine,
            labels back to 1920x1200)

eager       PyTorch as its users run it: float32 pixels are uploaded, normalised, the network and
            the argmax run op by op, the labels come back
torch       the product's engine `torch`: page-locked 8-bit pixels, one CUDA graph

Without a GPU it ends with status 2 and writes nothing. Engines that are not there are named with
the reason and not measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
import sys
from typing import Any

from engine import available
import numpy as np
from report import ROOT, arguments, finish, interleaved_ms

from offroad_seg_core.inference.bundle import Bundle
from offroad_seg_core.inference.engines import ENGINES, Engine, EngineSettings, LabelEngine
from offroad_seg_core.inference.engines.base import has_nvidia_gpu
from offroad_seg_core.inference.head import HeadInputs
from offroad_seg_core.inference.segmenter import Segmenter
from offroad_seg_core.memory import keep_freed_memory

SIZES = ((512, 896), (544, 960), (1024, 2048))
BATCHES = (1, 2)
CAMERA_SIZE = (1200, 1920)
RUNS = (
    ('torch', 'fp16'),
    ('torch', 'fp32'),
    ('onnxruntime_cuda', 'fp16'),
    ('tensorrt', 'fp16'),
    ('tensorrt_rtx', 'fp16'),
)
EAGER = ('fp32', 'fp16')

Work = Callable[[], object]


def at_size(bundle: Bundle, size: tuple[int, int]) -> Bundle:
    """Return the bundle with another input size; its network is fully convolutional."""
    spec = bundle.manifest.input.model_copy(update={'size': size})
    return replace(bundle, manifest=bundle.manifest.model_copy(update={'input': spec}))


class Eager:
    """The bundle's network in eager PyTorch."""

    def __init__(self, bundle: Bundle, device: str) -> None:
        import torch

        from offroad_seg_core.inference.engines.torch import build_model

        self._torch = torch
        self._device = device
        self._model = build_model(bundle).eval().to(device)
        spec = bundle.manifest.input
        self._label_stride = bundle.manifest.outputs.label_stride or 1
        self._mean, self._std = (
            torch.tensor(values).reshape(1, 3, 1, 1) for values in (spec.mean, spec.std)
        )

    def labels(self, images: np.ndarray, precision: str) -> np.ndarray:
        """Return label maps of uint8 images ``(N, H, W, 3)``, as coarse as the bundle's graph."""
        torch = self._torch
        size = [side // self._label_stride for side in images.shape[1:3]]
        batch = (torch.from_numpy(images).permute(0, 3, 1, 2).float() - self._mean) / self._std
        is_half = precision == 'fp16'
        with torch.inference_mode(), torch.autocast(self._device, torch.float16, is_half):
            logits = self._model(batch.to(self._device))
            large = torch.nn.functional.interpolate(logits, size, mode='bilinear')
            return large.argmax(1).to(torch.uint8).cpu().numpy()


def labels_of(engine: Engine, images: np.ndarray) -> np.ndarray | None:
    """Return label maps from the engine's graph."""
    assert isinstance(engine, LabelEngine)
    head = HeadInputs.of_classes(engine.info.num_classes, range(engine.info.num_classes))
    return engine.run_labels(images, head).label_map


def network(
    bundle: Bundle, engines: dict[str, Engine], options: Any, device: str = 'cuda'
) -> list[dict[str, Any]]:
    """Time every way at the bundle's size with every batch."""
    eager = Eager(bundle, device)
    rows = []
    height, width = bundle.manifest.input.size
    for batch in BATCHES:
        generator = np.random.default_rng(0)
        images = generator.integers(0, 256, (batch, height, width, 3), np.uint8)
        ways: dict[str, Work] = {
            f'eager {p}': lambda p=p, i=images: eager.labels(i, p) for p in EAGER
        }
        ways |= {name: lambda e=e, i=images: labels_of(e, i) for name, e in engines.items()}
        times = timed(ways, options)
        rows.append({'way': 'network', 'size': f'{height}x{width}', 'batch': batch} | times)
    return rows


def end_to_end(bundle: Bundle, engines: dict[str, Engine], options: Any) -> dict[str, Any]:
    """Time the segmenter from a camera image to labels of its size."""
    image = np.random.default_rng(0).integers(0, 256, (*CAMERA_SIZE, 3), np.uint8)
    segmenters = {
        name: Segmenter(bundle, engine, head='labels') for name, engine in engines.items()
    }
    times = timed({n: lambda s=s: s.segment(image) for n, s in segmenters.items()}, options)
    height, width = bundle.manifest.input.size
    return {'way': 'end to end', 'size': f'{height}x{width}', 'batch': 1} | times


def timed(ways: dict[str, Work], options: Any) -> dict[str, float]:
    """Return the median of each way, ms."""
    rounds, warm_ups = (20, 5) if options.quick else (200, 20)
    return {f'{n}_ms': v for n, v in interleaved_ms(ways, rounds, warm_ups).items()}


def ratios_of(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return how many times as fast as eager the graph is, per size and batch."""
    found = {}
    for row in rows:
        for precision in EAGER:
            if row['way'] == 'network' and 'torch fp16_ms' in row:
                name = f'graph_vs_eager_{precision}_{row["size"]}_batch_{row["batch"]}'
                found[name] = row[f'eager {precision}_ms'] / row['torch fp16_ms']
    return found


def main() -> None:
    """Measure every size in turn."""
    options = arguments(__doc__)
    if not has_nvidia_gpu():
        print('got no NVIDIA GPU, expected one: nothing was measured', file=sys.stderr)
        sys.exit(2)
    keep_freed_memory()
    shipped = Bundle.load(ROOT / 'models' / 'demo_desert')
    rows = []
    for size in SIZES:
        bundle = at_size(shipped, size)
        engines = {}
        for name, precision in RUNS:
            made = available(
                lambda n=name, p=precision, b=bundle: ENGINES[n](b, EngineSettings(p)),
                f'{name} {precision}',
            )
            if made is not None:
                engines[f'{name} {precision}'] = made
        rows += network(bundle, engines, options)
        rows.append(end_to_end(bundle, engines, options))
        for made in engines.values():
            made.close()
    ratios = ratios_of(rows)
    if ratios:
        ratios['graph_vs_eager_fp32_least'] = min(v for n, v in ratios.items() if 'fp32' in n)
    finish('gpu', options, rows, ratios)


if __name__ == '__main__':
    main()
