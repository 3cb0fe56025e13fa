"""The sky: gradient, glow around the sun, clouds, and the haze that veils far ground."""

from __future__ import annotations

import cv2
import numpy as np

from offroad_seg_core.world.biome import Look
from offroad_seg_core.world.camera import Rays
from offroad_seg_core.world.noise import fbm, smoothstep, to_byte

_CLOUD_PX = 1024


class Sky:
    """The sky of one scene."""

    def __init__(self, rng: np.random.Generator, look: Look) -> None:
        self._look = look
        body = fbm(rng, _CLOUD_PX, 8, 8, 0.52)
        threshold = float(np.quantile(body[::4, ::4], 1.0 - look.cloud_cover))
        cover = smoothstep(threshold, threshold + 0.75, body)
        toward = look.sun_vector[:2] * np.float32(6.0)
        matrix = np.array([[1, 0, toward[0]], [0, 1, toward[1]]], np.float32)
        moved = cv2.warpAffine(
            body,
            matrix,
            (_CLOUD_PX, _CLOUD_PX),
            borderMode=cv2.BORDER_WRAP,
            flags=cv2.INTER_LINEAR,
        )
        thick = smoothstep(threshold + 0.5, threshold + 2.6, body)
        shade = np.clip(0.93 + 0.22 * (moved - body) - 0.2 * thick, 0.55, 1.0)
        self._clouds = cv2.merge([to_byte(cover, 0, 1), to_byte(shade, 0, 1)])
        lit = look.ambient_color * 1.5 + look.sun_color * 0.55
        self._cloud_color = np.sqrt(lit) * 255.0 * 1.12
        self._height_m = rng.uniform(0.11, 0.2)

    def haze(self, rays: Rays) -> np.ndarray:
        """Return the colour of the veil over the ground, ``(H, W, 3)`` uint8."""
        height, width = rays.z.shape
        step = 8
        x, y = (np.ascontiguousarray(part[::step, ::step]) for part in (rays.x, rays.y))
        flat = np.sqrt(x * x + y * y)
        color = self._gradient(x / flat, y / flat, np.full_like(x, 0.015))
        color = np.clip(color, 0, 255).astype(np.uint8)
        return cv2.resize(color, (width, height), interpolation=cv2.INTER_LINEAR)

    def paint(self, rays: Rays, rows: slice) -> np.ndarray:
        """Return the sky in the given image rows, ``(h, W, 3)`` uint8."""
        inverse = np.float32(1.0) / rays.length[rows]
        x, y, z = rays.x[rows] * inverse, rays.y[rows] * inverse, rays.z[rows] * inverse
        base = self._smooth_gradient(x, y, z)
        lift = np.maximum(z, np.float32(0.012))
        scale = np.float32(_CLOUD_PX * self._height_m)
        bend = lift + np.float32(0.16)
        clouds = cv2.remap(
            self._clouds,
            x / bend * scale,
            y / bend * scale,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_WRAP,
        )
        veil = clouds[..., 0] * (np.clip(z * np.float32(9.0), 0.0, 1.0) * np.float32(0.92 / 255.0))
        shades = np.arange(256, dtype=np.float32)[:, None] / 255.0
        table = np.clip(self._cloud_color * shades, 0, 255).astype(np.uint8)[:, None]
        color = cv2.applyColorMap(np.ascontiguousarray(clouds[..., 1]), table)
        return cv2.blendLinear(color, base, veil, np.float32(1.0) - veil)

    def _smooth_gradient(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Evaluate the gradient on every fourth pixel and enlarge it; it has no detail."""
        height, width = z.shape
        small = (max(width // 4, 2), max(height // 4, 2))
        x, y, z = (cv2.resize(part, small, interpolation=cv2.INTER_LINEAR) for part in (x, y, z))
        color = cv2.resize(self._gradient(x, y, z), (width, height))
        return np.clip(color, 0, 255).astype(np.uint8)

    def _gradient(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        look = self._look
        climb = (np.clip(z, 0.0, 1.0) ** np.float32(0.55))[..., None]
        color = look.horizon_color * (1 - climb) + look.zenith_color * climb
        sun = look.sun_vector
        cosine = np.clip(x * sun[0] + y * sun[1] + z * sun[2], 0.0, 1.0)[..., None]
        glow = 0.22 * cosine**5 + 0.35 * cosine**40 + 1.2 * cosine**1500
        warm = np.sqrt(look.sun_color / look.sun_color.max()) * np.float32(255.0)
        color = color + (warm - color * np.float32(0.6)) * np.minimum(glow, 1.0)
        return (color * np.float32(look.exposure**0.5)).astype(np.float32)
