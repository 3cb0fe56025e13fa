"""What grows and lies in a biome, and the look of one seed, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Color = tuple[float, float, float]
"""sRGB, 0 to 255."""

TREES, LUSH_BUSHES, DRY_GRASS, DRY_BUSHES, GROUND_CLUTTER = 0, 1, 2, 3, 4
FLOWERS, LOGS, ROCKS, LANDSCAPE, SKY = 5, 6, 7, 8, 9


@dataclass(frozen=True)
class Ramp:
    """A material: the colour of its darkest and of its brightest parts."""

    dark: Color
    light: Color


@dataclass(frozen=True)
class ObjectKind:
    """One kind of object scattered over the ground."""

    name: str
    label: int
    shape: str
    """Name of a builder in ``sprites.BUILDERS``."""
    palettes: tuple[tuple[Ramp, ...], ...]
    """Alternatives, one is drawn for a seed; each holds the materials of the shape."""
    per_ha: float
    """Mean number on 10 000 m2 where the field allows it."""
    field: str = 'any'
    """Noise field that gathers the objects: any, grass, moist, clutter."""
    scale: tuple[float, float] = (0.7, 1.3)
    extent_m: float = 150.0
    """Half side of the square they are scattered over."""
    roadside_per_km: float = 0.0
    """Additional ones along the track."""
    roadside_m: tuple[float, float] = (3.0, 14.0)
    clearance_m: float = 2.2
    """Least distance from the middle of the track."""
    num_models: int = 4
    min_height_px: float = 4.0
    """Smaller on the screen than this is not drawn."""
    sink: float = 0.04
    """Share of the height that is below ground."""
    wrap: float = 0.6
    """Softness of the light: 0 hard rock, 1 light that shines through leaves."""
    is_flat: bool = False
    """Lies on the ground: its pictures are from above and it casts no long shadow."""
    num_directions: int = 12
    """Sides it is pictured from, 12 or 24."""
    max_slope: float = 0.5
    """Steeper hillsides (rise over run) stay bare of it."""
    soil_share: float = 0.0
    """How much of the soil's colour it takes on."""


@dataclass(frozen=True)
class Biome:
    """A landscape: its ground materials, hills and object kinds."""

    name: str
    soils: tuple[Ramp, ...]
    grass: tuple[Ramp, ...]
    litter: tuple[Ramp, ...]
    objects: tuple[ObjectKind, ...]
    hill_m: tuple[float, float] = (2.0, 5.5)
    """Height scale of the hills around the track."""
    mountain_m: tuple[float, float] = (60.0, 210.0)
    mesa_chance: float = 0.55
    grass_cover: tuple[float, float] = (0.28, 0.62)
    clutter_cover: tuple[float, float] = (0.08, 0.2)


@dataclass(frozen=True)
class Look:
    """Everything that a seed decides about light, colour and density."""

    sun_azimuth_deg: float
    sun_elevation_deg: float
    sun_color: np.ndarray = field(repr=False)
    """Linear RGB (3,) float32 of the direct light on a surface that faces it."""
    ambient_color: np.ndarray = field(repr=False)
    zenith_color: np.ndarray = field(repr=False)
    """Display RGB (3,) float32, 0 to 255."""
    horizon_color: np.ndarray = field(repr=False)
    haze_length_m: float = 2000.0
    cloud_cover: float = 0.4
    exposure: float = 1.0
    contrast: float = 1.0
    density: float = 1.0
    roughness: float = 1.0
    soil_choice: float = 0.0
    """In [0, 1): which of the biome's soils; the stones take on some of its colour."""
    grass_choice: float = 0.0
    """In [0, 1): which of the biome's grasses, on the ground and standing."""

    @property
    def sun_vector(self) -> np.ndarray:
        """Unit vector towards the sun, ``(3,)`` float32."""
        azimuth, elevation = np.radians([self.sun_azimuth_deg, self.sun_elevation_deg])
        flat = np.cos(elevation)
        vector = [flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)]
        return np.array(vector, np.float32)


def pick(options: tuple, choice: float) -> Any:
    """Return the option that a number in [0, 1) points at."""
    return options[int(choice * len(options))]


def draw_look(rng: np.random.Generator) -> Look:
    """Draw the look of one seed: low sun is warm and dim, haze pales the horizon."""
    elevation = float(rng.uniform(14.0, 62.0))
    low = float(np.clip((38.0 - elevation) / 26.0, 0.0, 1.0))
    warm = np.array([1.0, 0.93 - 0.14 * low, 0.82 - 0.34 * low], np.float32)
    overcast = float(rng.uniform(0.0, 1.0)) ** 2
    blue = rng.uniform(0.8, 1.15)
    zenith = np.array([64, 116, 186], np.float32) * (1 - 0.25 * low) * np.float32(blue)
    pale = np.array([196, 212, 226], np.float32)
    dusk = np.array([232, 204, 172], np.float32)
    horizon = pale * (1 - 0.75 * low) + dusk * 0.75 * low
    ambient = np.array([0.27, 0.32, 0.42], np.float32) * np.float32(0.75 + 0.65 * overcast)
    return Look(
        sun_azimuth_deg=float(rng.uniform(0.0, 360.0)),
        sun_elevation_deg=elevation,
        sun_color=warm * np.float32(1.55 - 0.75 * overcast),
        ambient_color=ambient,
        zenith_color=zenith * (1 - 0.3 * overcast) + 150 * 0.3 * overcast,
        horizon_color=horizon,
        haze_length_m=float(np.exp(rng.uniform(np.log(700.0), np.log(4500.0)))),
        cloud_cover=float(np.clip(rng.uniform(0.05, 0.55) + 0.35 * overcast, 0.0, 0.85)),
        exposure=float(np.exp(rng.normal(0.0, 0.16))),
        contrast=float(rng.uniform(0.9, 1.25)),
        density=float(rng.uniform(0.65, 1.35)),
        roughness=float(rng.uniform(0.6, 1.4)),
        soil_choice=float(rng.uniform()),
        grass_choice=float(rng.uniform()),
    )
