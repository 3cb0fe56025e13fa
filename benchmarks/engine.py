"""The student against DeepLabV3+ ResNet-101: a label map at 512x896, ten classes, every engine.

    python benchmarks/engine.py [--quick] [--json PATH]

Both start from the same 8-bit image and end in a label map of its size, through the product's
own engines and decoder. DeepLabV3+ is segmentation-models-pytorch's with random weights (they do
not change its speed); needs `make install`.
"""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
import tempfile
from typing import Any
import warnings

import numpy as np
from report import ROOT, arguments, finish, interleaved_ms

from offroad_seg_core.inference.bundle import Bundle, write_bundle
from offroad_seg_core.inference.decode import Decoder
from offroad_seg_core.inference.engines import (
    ENGINES,
    Engine,
    EngineError,
    EngineInfo,
    EngineOutput,
    EngineSettings,
)
from offroad_seg_core.memory import keep_freed_memory
from offroad_seg_core.taxonomy import load_taxonomy

SIZE = (512, 896)
NUM_CLASSES = 10
RUNS = (
    ('torch', 'fp32'),
    ('torch', 'bf16'),
    ('onnxruntime', 'fp32'),
    ('openvino', 'fp32'),
    ('openvino', 'bf16'),
)
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class EagerEngine:
    """DeepLabV3+ in PyTorch, as its library's users run it."""

    def __init__(self, model: Any, precision: str) -> None:
        import torch

        self._torch = torch
        self._model = model.eval().to(memory_format=torch.channels_last)
        self._dtype = torch.bfloat16 if precision == 'bf16' else None
        self._mean = torch.tensor(MEAN).reshape(1, 3, 1, 1)
        self._std = torch.tensor(STD).reshape(1, 3, 1, 1)
        self.info = EngineInfo('torch', precision, 'cpu', torch.__version__, NUM_CLASSES)

    def run(self, images: np.ndarray) -> EngineOutput:
        """See Engine.run."""
        torch = self._torch
        with torch.inference_mode(), torch.autocast('cpu', self._dtype, bool(self._dtype)):
            batch = torch.from_numpy(images).permute(0, 3, 1, 2).float()
            logits = self._model((batch - self._mean) / self._std)
        return EngineOutput(logits.float().numpy())

    def close(self) -> None:
        """See Engine.close."""


def deeplab() -> Any:
    """Build DeepLabV3+ ResNet-101 with fresh weights."""
    from offroad_seg_core.models.torchvision_ops import ensure_torchvision_imports

    ensure_torchvision_imports()
    import segmentation_models_pytorch as smp
    import torch

    torch.manual_seed(0)
    return smp.DeepLabV3Plus('resnet101', encoder_weights=None, classes=NUM_CLASSES).eval()


def deeplab_bundle(model: Any, folder: Path) -> Bundle:
    """Export it to ONNX and wrap it in a bundle."""
    import torch

    file = folder / 'deeplab.onnx'
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.onnx.export(
            model, (torch.zeros(1, 3, *SIZE),), file, input_names=['images'],
            output_names=['logits'], dynamo=True, external_data=False, verbose=False,
        )  # fmt: skip
    manifest = {
        'name': 'deeplabv3plus_resnet101',
        'taxonomy': load_taxonomy('falcon10').to_dict(),
        'input': {'size': SIZE, 'resize': 'stretch', 'mean': MEAN, 'std': STD},
        'models': [{'precision': 'fp32', 'file': 'model.onnx'}],
        'outputs': {'stride': 1, 'num_classes': NUM_CLASSES},
    }
    return write_bundle(folder / 'bundle', manifest, {'model.onnx': file})


def available(make: Callable[[], Engine], name: str) -> Engine | None:
    """Return the engine, or None with the reason printed."""
    try:
        return make()
    except EngineError as error:
        print(f'not measured: {name}: {error}')
        return None


def main() -> None:
    """Build every engine of both models and time them in turn."""
    options = arguments(__doc__)
    keep_freed_memory()  # as the node does; without it DeepLabV3+ is hit hardest
    threads = len(os.sched_getaffinity(0))
    student = Bundle.load(ROOT / 'models' / 'demo_desert')
    image = np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3), np.uint8)
    decoder = Decoder(SIZE)
    classes = range(NUM_CLASSES)
    engines: dict[tuple[str, str, str], Engine] = {}
    with tempfile.TemporaryDirectory() as folder:
        teacher_model = deeplab()
        teacher = deeplab_bundle(teacher_model, Path(folder))
        for name, precision in RUNS:
            makers: dict[str, Callable[[], Engine]] = {
                'student': lambda n=name, p=precision: ENGINES[n](
                    student, EngineSettings(p, threads)
                ),
                'deeplabv3plus': lambda n=name, p=precision: (
                    EagerEngine(teacher_model, p)
                    if n == 'torch'
                    else ENGINES[n](teacher, EngineSettings(p, threads))
                ),
            }
            for model, make in makers.items():
                engine = available(make, f'{model} {name} {precision}')
                if engine is not None:
                    engines[model, name, precision] = engine
        times = interleaved_ms(
            {
                ' '.join(key): lambda e=engine: decoder.label_map(e.run(image), classes)
                for key, engine in engines.items()
            },
            rounds=3 if options.quick else 20,
            warm_ups=1 if options.quick else 3,
        )
    rows = []
    for name, precision in RUNS:
        row: dict[str, Any] = {'engine': name, 'precision': precision}
        for model in ('student', 'deeplabv3plus'):
            row[f'{model}_ms'] = times.get(f'{model} {name} {precision}')
        if all(row.values()):
            row['ratio'] = row['deeplabv3plus_ms'] / row['student_ms']
        rows.append(row)
    fastest = min(value for key, value in times.items() if key.startswith('student'))
    ratios = {
        'student_vs_deeplabv3plus_torch_eager': times['deeplabv3plus torch fp32'] / fastest,
        'student_vs_deeplabv3plus_ort': times['deeplabv3plus onnxruntime fp32']
        / times['student onnxruntime fp32'],
    }
    finish('engine', options, rows, ratios)


if __name__ == '__main__':
    main()
