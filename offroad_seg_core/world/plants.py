"""Plants and litter, each a bundle of a few hundred strokes."""

from __future__ import annotations

import math

import numpy as np

from offroad_seg_core.world.strokes import Bundle, Strokes


def _disc(rng: np.random.Generator, count: int, radius: float) -> np.ndarray:
    angle, r = rng.uniform(0, 2 * np.pi, count), radius * np.sqrt(rng.uniform(0, 1, count))
    return np.stack([r * np.cos(angle), r * np.sin(angle), np.zeros(count)], 1)


def _sphere(rng: np.random.Generator, count: int) -> np.ndarray:
    points = rng.normal(size=(count, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def grass(rng: np.random.Generator) -> Strokes:
    """Build a tussock of bent blades with seed heads, about 1.3 m wide and 0.6 m tall."""
    bundle = Bundle()
    count = 420
    centres = _disc(rng, 7, 0.5)
    foot = centres[rng.integers(0, 7, count)] + _disc(rng, count, 0.16)
    height = rng.uniform(0.22, 0.62, count) * (1.05 - 0.5 * np.linalg.norm(foot, axis=1))
    lean = foot * rng.uniform(0.1, 0.5, (count, 1)) + _disc(rng, count, 0.16)
    up = np.array([0.0, 0.0, 1.0])
    knee = foot + lean * 0.4 + up * height[:, None] * 0.6
    tip = foot + lean * 1.25 + up * height[:, None]
    shade = rng.normal(0, 6, count)
    normal = foot + lean + up * 0.5
    for p, q, level in ((foot, knee, 20 + shade), (knee, tip, 42 + shade)):
        bundle.add(p, q, 0.008, (0, level.astype(int)), normal)
    middle = (foot + knee) / 2
    bundle.add(foot, middle, 0.012, (0, (10 + shade).astype(int)), normal)
    heads = rng.uniform(size=count) < 0.22
    direction = (tip - knee)[heads]
    bundle.add(
        tip[heads],
        tip[heads] + direction * 0.25,
        0.01,
        (1, (44 + shade[heads]).astype(int)),
        normal[heads],
    )
    return bundle.finish(224)


def dry_bush(rng: np.random.Generator) -> Strokes:
    """Build a round scrub of grey twigs with small dry leaves, about 1.3 m wide, 0.8 m tall."""
    bundle = Bundle()
    stems = 46
    direction = _sphere(rng, stems)
    direction[:, 2] = np.abs(direction[:, 2]) * 0.9 + 0.25
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    reach = rng.uniform(0.42, 0.74, (stems, 1))
    foot = _disc(rng, stems, 0.09)
    top = foot + direction * reach
    knee = foot + direction * reach * 0.5 + rng.normal(0, 0.04, (stems, 3))
    bundle.add(foot, knee, 0.022, (1, rng.integers(10, 30, stems)), direction)
    bundle.add(knee, top, 0.013, (1, rng.integers(20, 46, stems)), direction)
    count = 1500
    stem = rng.integers(0, stems, count)
    along = rng.uniform(0.25, 1.0, (count, 1)) ** 0.7
    origin = foot[stem] + (top - foot)[stem] * along + rng.normal(0, 0.055, (count, 3))
    origin[:, 2] = np.maximum(origin[:, 2], 0.01)
    twig = direction[stem] * 0.05 + rng.normal(0, 0.035, (count, 3))
    level = (
        14 + 34 * np.clip(np.linalg.norm(origin, axis=1) / 0.75, 0, 1) + rng.normal(0, 8, count)
    )
    material = (rng.uniform(size=count) < 0.3).astype(int)
    for m in (0, 1):
        part = material == m
        bundle.add(
            origin[part],
            (origin + twig)[part],
            0.018 if m == 0 else 0.009,
            (m, level[part].astype(int)),
            origin[part] + np.array([0, 0, 0.15]),
        )
    return bundle.finish(256)


def _foliage(
    bundle: Bundle,
    rng: np.random.Generator,
    centres: np.ndarray,
    radii: np.ndarray,
    leaf: tuple[int, float, float],
) -> None:
    """Cover balls with leaves; leaves deep inside or low in the crown are darker."""
    per_ball, length, width = leaf
    count = per_ball * len(centres)
    ball = np.repeat(np.arange(len(centres)), per_ball)
    outward = _sphere(rng, count)
    shell = rng.uniform(0.5, 1.08, (count, 1))
    position = centres[ball] + outward * shell * radii[ball][:, None] * np.array([1.0, 1.0, 0.8])
    position[:, 2] = np.maximum(position[:, 2], 0.02)
    low, high = position[:, 2].min(), position[:, 2].max()
    rise = (position[:, 2] - low) / (high - low)
    level = 6 + 26 * np.clip((shell[:, 0] - 0.45) / 0.6, 0, 1) + 16 * rise
    level = level + 10 * outward[:, 2] + rng.normal(0, 6, count)
    blade = rng.normal(0, length, (count, 3)) + outward * length * 0.6
    bundle.add(
        position,
        position + blade,
        width * rng.uniform(0.7, 1.3, count),
        (0, level.astype(int)),
        outward + np.array([0, 0, 0.25]),
    )


def lush_bush(rng: np.random.Generator) -> Strokes:
    """Build a leafy green bush, about 1.6 m wide and 1 m tall."""
    bundle = Bundle()
    balls = int(rng.integers(14, 21))
    centres = _disc(rng, balls, 0.58)
    dome = 1.0 - (np.linalg.norm(centres[:, :2], axis=1) / 0.75) ** 2
    centres[:, 2] = rng.uniform(0.02, 0.7, balls) * np.clip(dome, 0.2, 1.0) + 0.05
    radii = rng.uniform(0.13, 0.29, balls)
    _foliage(bundle, rng, centres, radii, (190, 0.022, 0.016))
    shoots = 90
    start = centres[rng.integers(0, balls, shoots)]
    rise = _sphere(rng, shoots) * 0.24 + np.array([0.0, 0.0, 0.1])
    bundle.add(start, start + rise, 0.006, (0, rng.integers(22, 56, shoots)), rise)
    return bundle.finish(256)


def tree(rng: np.random.Generator) -> Strokes:
    """Build a juniper-like tree with a forked trunk, about 4 m tall."""
    bundle = Bundle()
    forks = int(rng.integers(5, 9))
    fork_height = rng.uniform(0.5, 1.3)
    fork = np.array([rng.normal(0, 0.12), rng.normal(0, 0.12), fork_height])
    steps = np.linspace(0, 1, 7)[:, None]
    sway = np.cumsum(rng.normal(0, 0.035, (7, 3)), axis=0) * np.array([1, 1, 0])
    trunk = steps * fork + sway
    _limb(bundle, rng, trunk, (0.19, 0.13))
    angles = np.linspace(0, 2 * np.pi, forks, endpoint=False) + rng.uniform(0, 1.5, forks)
    spread, rise = rng.uniform(0.5, 1.35, forks), rng.uniform(0.7, 2.4, forks)
    tips = np.stack([np.cos(angles) * spread, np.sin(angles) * spread, rise], 1) + trunk[-1]
    for tip in tips:
        bend = rng.normal(0, 0.12, 3)
        path = trunk[-1] + (tip - trunk[-1]) * steps + bend * np.sin(steps * np.pi)
        _limb(bundle, rng, path, (0.09, 0.035))
    balls = forks * 4
    centres = np.repeat(tips, 4, axis=0) + rng.normal(0, 0.3, (balls, 3))
    radii = rng.uniform(0.3, 0.58, balls)
    _foliage(bundle, rng, centres, radii, (95, 0.05, 0.07))
    return bundle.finish(320)


def _limb(
    bundle: Bundle, rng: np.random.Generator, path: np.ndarray, radius: tuple[float, float]
) -> None:
    """Add a tapering limb: strands side by side, each with the normal of a cylinder."""
    width = np.linspace(radius[0], radius[1], len(path) - 1)
    for angle in np.linspace(0, 2 * np.pi, 8, endpoint=False):
        out = np.array([math.cos(angle), math.sin(angle), 0.0])
        offset = out * (np.append(width, width[-1])[:, None] * 0.6)
        strand = path + offset
        level = rng.integers(16, 50, len(width))
        normal = np.repeat(out[None], len(width), axis=0)
        bundle.add(strand[:-1], strand[1:], width * 0.75, (1, level), normal)


def flower(rng: np.random.Generator) -> Strokes:
    """Build a cushion of thin stems with many blossoms, about 0.9 m wide and 0.4 m tall."""
    bundle = Bundle()
    count = 420
    centres = _disc(rng, 6, 0.3)
    foot = centres[rng.integers(0, 6, count)] + _disc(rng, count, 0.2)
    height = rng.uniform(0.06, 0.36, count) * (1.1 - np.linalg.norm(foot, axis=1))
    tip = foot * 1.15 + _disc(rng, count, 0.09)
    tip[:, 2] = height
    level = 10 + 40 * height / 0.4 + rng.normal(0, 6, count)
    normal = foot + np.array([0, 0, 0.4])
    bundle.add(foot, tip, 0.012, (0, level.astype(int)), normal)
    leaf = foot + (tip - foot) * rng.uniform(0.2, 0.9, (count, 1))
    blade = _disc(rng, count, 0.05) + np.array([0, 0, 0.01])
    bundle.add(leaf, leaf + blade, 0.016, (0, (level + 4).astype(int)), normal)
    blooms = rng.uniform(size=count) < 0.75
    heart = tip[blooms]
    for _ in range(3):
        petal = rng.normal(0, 0.011, heart.shape)
        tone = (1, rng.integers(24, 63, len(heart)))
        bundle.add(heart, heart + petal, 0.02, tone, normal[blooms])
    return bundle.finish(256)


def clutter(rng: np.random.Generator) -> Strokes:
    """Build a litter of pebbles and broken twigs on the ground, about 1.2 m wide.

    It is drawn as seen from above: its pictures are laid flat on the ground.
    """
    bundle = Bundle()
    stones = 130
    centre = _disc(rng, stones, 0.55)
    size = 0.012 + 0.045 * rng.uniform(0.0, 1.0, stones) ** 2
    reach = _disc(rng, stones, 0.03)
    normal = np.repeat([[0.0, 0.0, 1.0]], stones, 0)
    for share, move, shade in ((1.15, 0.01, 6), (1.0, 0.0, 22), (0.55, -0.006, 36)):
        shift = np.array([move, -move, 0.0])
        level = shade + rng.integers(-6, 7, stones)
        bundle.add(centre + shift, centre + reach + shift, size * share, (0, level), normal)
    twigs = 40
    start = _disc(rng, twigs, 0.55)
    end = start + _disc(rng, twigs, 0.2)
    normal = np.repeat([[0.0, 0.0, 1.0]], twigs, 0)
    bundle.add(start, end, 0.012, (1, rng.integers(8, 44, twigs)), normal)
    return bundle.finish(192, tilt=math.pi / 2)
