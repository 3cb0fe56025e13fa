"""A tiny world for the tests of copy-paste: sky, sand with stones on it, an ignored bonnet."""

import sys

import cv2
import numpy as np
import pytest

from offroad_seg_core.datasets.copy_paste.bank_building import BankConfig, build_bank
from offroad_seg_core.datasets.copy_paste.instances import InstanceRules
from offroad_seg_core.datasets.frames import FrameFiles, FrameSet
from offroad_seg_core.datasets.masks import MaskReader
from offroad_seg_core.taxonomy import Taxonomy

NAMES = ('sky', 'sand', 'stone', 'sign', 'grass')
SKY, SAND, STONE, SIGN, GRASS = range(5)
COLORS = {SKY: (120, 160, 230), SAND: (200, 180, 140), STONE: (90, 90, 100), SIGN: (250, 0, 0)}
HEIGHT, WIDTH, HORIZON, BONNET = 80, 120, 30, 76
# (top, left, bottom, right) of the stone of each frame; frame 3 has none. Frame 0 has a sign too.
STONES = ((50, 20, 60, 32), (40, 60, 46, 68), (58, 90, 70, 106), None)
SIGN_BOX = (36, 100, 44, 104)
RULES = InstanceRules(min_area_px=20, max_area_share=0.2, min_texture=0)
CONFIG = BankConfig(classes=('stone',), rules=RULES)


def make_taxonomy():
    groups = ('unknown', 'rough', 'obstacle', 'obstacle', 'resistant')
    costs = (255, 20, 254, 254, 60)
    rows = zip(NAMES, groups, costs, strict=True)
    classes = [
        {'id': i, 'name': n, 'color': f'#0000{i:02x}', 'raw_ids': [i], 'group': g, 'cost': c}
        for i, (n, g, c) in enumerate(rows)
    ]
    return Taxonomy.from_dict({'name': 'tiny', 'source': 'test', 'classes': classes})


def draw_frame(stone, with_sign=False):
    labels = np.full((HEIGHT, WIDTH), SAND, np.uint8)
    labels[:HORIZON] = SKY
    if stone:
        labels[stone[0] : stone[2], stone[1] : stone[3]] = STONE
    if with_sign:
        labels[SIGN_BOX[0] : SIGN_BOX[2], SIGN_BOX[1] : SIGN_BOX[3]] = SIGN
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for label, color in COLORS.items():
        image[labels == label] = color
    labels[BONNET:] = 255
    return image, labels


def write_frames(folder):
    taxonomy = make_taxonomy()
    files = []
    for number, stone in enumerate(STONES):
        image, labels = draw_frame(stone, with_sign=number == 0)
        paths = [folder / f'{kind}{number}.png' for kind in ('image', 'label')]
        cv2.imwrite(str(paths[0]), image[..., ::-1])
        cv2.imwrite(str(paths[1]), labels)
        files.append(FrameFiles(*paths, 'place'))
    return FrameSet(files, taxonomy, MaskReader(taxonomy, 'class_ids'), 'test')


def make_bank(folder):
    frames = write_frames(folder)
    return frames, build_bank(frames, folder / 'bank', CONFIG)


@pytest.fixture(scope='session')
def scene():
    """Return this module: test modules cannot import it."""
    return sys.modules[__name__]
