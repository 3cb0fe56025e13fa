"""The desert biome: dry hills with bunch grass, scrub, junipers and scattered rock."""

from __future__ import annotations

from offroad_seg_core.world.biome import (
    DRY_BUSHES,
    DRY_GRASS,
    FLOWERS,
    GROUND_CLUTTER,
    LOGS,
    LUSH_BUSHES,
    ROCKS,
    TREES,
    Biome,
    ObjectKind,
    Ramp,
)

_BARK = Ramp((38, 28, 22), (124, 100, 80))

_GRASS = ObjectKind(
    'grass',
    DRY_GRASS,
    'grass',
    (
        (Ramp((92, 66, 34), (214, 174, 106)), Ramp((150, 114, 66), (232, 200, 140))),
        (Ramp((84, 68, 38), (196, 172, 116)), Ramp((140, 118, 74), (218, 198, 150))),
        (Ramp((74, 50, 24), (182, 132, 66)), Ramp((120, 84, 44), (206, 164, 98))),
        (Ramp((70, 64, 36), (170, 158, 98)), Ramp((130, 112, 70), (214, 196, 142))),
    ),
    per_ha=6500,
    field='grass',
    scale=(0.6, 1.25),
    extent_m=140,
    clearance_m=1.5,
    num_models=6,
    min_height_px=4.0,
    wrap=0.8,
)
_DRY_BUSH = ObjectKind(
    'dry_bush',
    DRY_BUSHES,
    'dry_bush',
    (
        (Ramp((66, 50, 36), (152, 122, 88)), Ramp((42, 32, 26), (116, 94, 76))),
        (Ramp((74, 64, 50), (158, 142, 112)), Ramp((54, 46, 40), (134, 118, 102))),
        (Ramp((58, 40, 28), (132, 92, 60)), Ramp((40, 28, 22), (104, 76, 58))),
    ),
    per_ha=140,
    field='grass',
    scale=(0.6, 1.5),
    extent_m=220,
    roadside_per_km=60,
    num_models=6,
    wrap=0.6,
)
_LUSH_BUSH = ObjectKind(
    'lush_bush',
    LUSH_BUSHES,
    'lush_bush',
    (
        (Ramp((26, 36, 16), (112, 132, 60)),),
        (Ramp((32, 42, 26), (128, 144, 92)),),
        (Ramp((22, 40, 18), (86, 124, 54)),),
    ),
    per_ha=70,
    field='moist',
    scale=(0.6, 1.5),
    extent_m=220,
    roadside_per_km=40,
    num_models=4,
    wrap=0.5,
)
_TREE = ObjectKind(
    'tree',
    TREES,
    'tree',
    (
        (Ramp((14, 22, 10), (74, 94, 40)), _BARK),
        (Ramp((18, 28, 16), (90, 104, 60)), _BARK),
        (Ramp((20, 26, 10), (98, 104, 46)), _BARK),
    ),
    per_ha=7,
    field='moist',
    scale=(0.65, 1.4),
    extent_m=420,
    roadside_per_km=26,
    roadside_m=(7.0, 30.0),
    clearance_m=5.0,
    num_models=4,
    min_height_px=5.0,
    sink=0.01,
    wrap=0.45,
)
_FLOWER = ObjectKind(
    'flower',
    FLOWERS,
    'flower',
    (
        (Ramp((46, 56, 24), (126, 134, 66)), Ramp((196, 160, 24), (250, 222, 70))),
        (Ramp((48, 54, 30), (122, 128, 76)), Ramp((126, 84, 150), (206, 160, 222))),
        (Ramp((44, 56, 28), (120, 132, 70)), Ramp((206, 200, 188), (252, 250, 240))),
        (Ramp((50, 52, 26), (128, 126, 66)), Ramp((190, 92, 28), (248, 160, 62))),
    ),
    per_ha=40,
    field='moist',
    scale=(0.7, 1.4),
    extent_m=120,
    roadside_per_km=150,
    roadside_m=(2.4, 9.0),
    num_models=4,
    wrap=0.7,
)
_CLUTTER = ObjectKind(
    'clutter',
    GROUND_CLUTTER,
    'clutter',
    (
        (Ramp((50, 42, 36), (144, 124, 104)), Ramp((44, 32, 24), (122, 96, 72))),
        (Ramp((62, 56, 50), (160, 148, 134)), Ramp((52, 42, 34), (128, 106, 84))),
    ),
    per_ha=900,
    field='clutter',
    scale=(0.7, 1.4),
    extent_m=120,
    num_models=4,
    min_height_px=3.0,
    clearance_m=1.8,
)
_LOG = ObjectKind(
    'log',
    LOGS,
    'log',
    (
        (Ramp((52, 40, 32), (138, 114, 92)), Ramp((132, 98, 62), (208, 168, 116))),
        (Ramp((74, 68, 62), (164, 154, 142)), Ramp((140, 116, 84), (206, 180, 138))),
    ),
    per_ha=5,
    scale=(0.8, 1.5),
    extent_m=150,
    roadside_per_km=75,
    roadside_m=(2.8, 10.0),
    clearance_m=2.6,
    num_models=4,
    sink=0.08,
    wrap=0.1,
)
_ROCK_PALETTES = (
    (Ramp((84, 58, 42), (186, 140, 106)),),
    (Ramp((78, 70, 62), (178, 166, 150)),),
    (Ramp((98, 88, 74), (206, 192, 168)),),
    (Ramp((70, 48, 38), (166, 112, 80)),),
)
_ROCK = ObjectKind(
    'rock',
    ROCKS,
    'rock',
    _ROCK_PALETTES,
    per_ha=80,
    scale=(0.3, 1.1),
    extent_m=160,
    roadside_per_km=70,
    clearance_m=1.9,
    num_models=8,
    sink=0.18,
    wrap=0.0,
)
_BOULDER = ObjectKind(
    'boulder',
    ROCKS,
    'rock',
    _ROCK_PALETTES,
    per_ha=5,
    scale=(1.4, 3.4),
    extent_m=320,
    roadside_per_km=16,
    roadside_m=(5.0, 22.0),
    clearance_m=4.5,
    num_models=5,
    sink=0.2,
    wrap=0.0,
)

DESERT = Biome(
    name='desert',
    soils=(
        Ramp((128, 92, 62), (218, 178, 134)),
        Ramp((138, 116, 90), (222, 204, 174)),
        Ramp((118, 70, 46), (204, 142, 102)),
        Ramp((124, 104, 82), (200, 182, 156)),
        Ramp((150, 132, 106), (232, 218, 192)),
    ),
    grass=(
        Ramp((104, 78, 42), (196, 158, 98)),
        Ramp((96, 78, 48), (184, 160, 110)),
        Ramp((88, 62, 32), (170, 124, 68)),
        Ramp((84, 76, 46), (164, 150, 98)),
    ),
    litter=(Ramp((52, 42, 34), (136, 114, 92)), Ramp((62, 54, 48), (150, 138, 122))),
    objects=(
        _GRASS,
        _DRY_BUSH,
        _LUSH_BUSH,
        _TREE,
        _FLOWER,
        _CLUTTER,
        _LOG,
        _ROCK,
        _BOULDER,
    ),
)
