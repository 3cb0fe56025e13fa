import cv2
import numpy as np
import pytest

pytest.importorskip('torch')
pytest.importorskip('onnxruntime')

import torch

from offroad_seg_core.datasets.folder import FolderConfig
from offroad_seg_core.inference.bundle import write_bundle
from offroad_seg_core.inference.export import export_onnx
from offroad_seg_core.taxonomy import load_taxonomy

SIZE = (64, 96)
TAXONOMY = load_taxonomy('falcon10')


class Student(torch.nn.Module):
    """A few residual blocks whose classifier is the nearest class colour, so it segments.

    The first convolution hands the colours through, the blocks add what is nearly nothing.
    """

    stride = 4
    input_multiple = 4

    def __init__(self, num_blocks=9):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 16, 4, stride=4)
        self.norm = torch.nn.BatchNorm2d(16)
        for index in range(num_blocks):
            self.add_module(f'block{index}', torch.nn.Conv2d(16, 16, 3, padding=1))
        self.head = torch.nn.Conv2d(16, 10, 1)
        self.num_blocks = num_blocks
        with torch.no_grad():
            for weight in self.parameters():
                weight.mul_(0.05)
            self.norm.weight.fill_(1)
            self.stem.weight[:6] = 0
            for channel in range(3):  # the colour and its negative, both through the ReLU
                self.stem.weight[channel, channel] = 1 / 16
                self.stem.weight[channel + 3, channel] = -1 / 16
            self.stem.bias[:6] = 0
            colors = torch.from_numpy((TAXONOMY.palette_rgb[:10] - 127.5) / 127.5).float()
            self.head.weight.zero_()
            self.head.weight[:, :3, 0, 0] = 40 * colors
            self.head.weight[:, 3:6, 0, 0] = -40 * colors
            self.head.bias.copy_(-20 * (colors**2).sum(dim=1))

    def forward(self, images):
        x = self.norm(self.stem(images)).relu()
        for index in range(self.num_blocks):
            change = getattr(self, f'block{index}')(x)
            x = x + torch.nn.functional.pad(change[:, 6:], (0, 0, 0, 0, 6, 0))
            x = x.relu()
        return self.head(x)


def write_student(folder, model):
    file = folder / 'source.onnx'
    export_onnx(model.eval(), file)
    manifest = {
        'name': 'student',
        'taxonomy': TAXONOMY.to_dict(),
        'input': {'size': SIZE, 'mean': [127.5] * 3, 'std': [127.5] * 3, 'stride': 4},
        'models': [{'precision': 'fp32', 'file': 'model.onnx'}],
        'outputs': {'stride': 4, 'num_classes': 10},
    }
    return write_bundle(folder / 'bundle', manifest, {'model.onnx': file})


@pytest.fixture(scope='session')
def student(tmp_path_factory):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return write_student(tmp_path_factory.mktemp('student'), Student())


@pytest.fixture(scope='session')
def fragile(tmp_path_factory):
    """A student whose classifier sees one huge channel that it ignores."""
    torch.manual_seed(0)
    model = Student()
    with torch.no_grad():
        model.block8.bias[15] = 5000.0
        model.head.weight[:, 15] = 0.0
    return write_student(tmp_path_factory.mktemp('fragile'), model)


def blocks(rng, size=SIZE):
    """Return (RGB image, label map) of class colours in patches of 16 pixels, with noise."""
    ids = rng.integers(0, 10, (size[0] // 16, size[1] // 16)).astype(np.uint8)
    label_map = ids.repeat(16, axis=0).repeat(16, axis=1)
    noise = rng.integers(-6, 7, (*size, 3))
    image = np.clip(TAXONOMY.palette_rgb[label_map].astype(int) + noise, 0, 255)
    return image.astype(np.uint8), label_map


@pytest.fixture(scope='session')
def pictures(tmp_path_factory):
    """A folder of 36 pictures, each of another scene."""
    folder = tmp_path_factory.mktemp('pictures')
    for index in range(36):
        image, _ = blocks(np.random.default_rng(index))
        cv2.imwrite(str(folder / f'{index:03}.png'), image[..., ::-1])
    return folder


@pytest.fixture(scope='session')
def frames(tmp_path_factory):
    """Labelled frames that were not calibrated on."""
    root = tmp_path_factory.mktemp('frames')
    for split in ('train', 'validation'):
        for folder in ('images', 'labels'):
            (root / split / folder).mkdir(parents=True)
        for index in range(6):
            image, label_map = blocks(np.random.default_rng(100 + index))
            cv2.imwrite(str(root / split / 'images' / f'{index}.png'), image[..., ::-1])
            cv2.imwrite(str(root / split / 'labels' / f'{index}.png'), label_map)
    return FolderConfig(kind='folder', root=root).frames('validation', TAXONOMY)
