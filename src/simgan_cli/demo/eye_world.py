"""Draw simulated eyes, many at once: parameters, clean renders, labels and landmarks.

A camera straight ahead sees left eyes in parallel projection, with the nose at the image's left. Lengths are in
millimetres from the middle of the image, x right and y down; the image is 44 mm wide. Levels are those of a display, 0
black to 1 white. Edges are antialiased by their distance, which needs no larger render.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]  # always float32, which numpy's types cannot express
Ranges = Mapping[str, tuple[float, float]]

FIELD = 44.0  # mm across the image
EYEBALL, IRIS_DISTANCE = 12.0, 10.4  # radius of the ball; distance of the iris' plane from its centre
CORNEA, CORNEA_DISTANCE = 7.8, 5.6  # radius of the cornea; distance of its centre from the ball's
LID_BULGE = 15.0  # radius of the lids over the ball
BANK = 512  # texels along a side of a texture, which repeats
TEXEL = 0.1  # mm
LASH_ROOT, LASH_LENGTH = 20, 38  # texels: row of the lid's margin in the texture of lashes, longest lash

# Each eye draws its parameters from ranges.
UNIFORM_GAZE: Ranges = {"pitch": (-0.38, 0.38), "yaw": (-0.52, 0.52)}  # radians, mpiigaze convention
# The face, in mm; both domains draw it from the same ranges. `roll` is a slope. `upper` and `lower` are the heights of
# the lids over the line between the corners, for straight gaze. The exponents `upper_peak` and `lower_peak` move their
# peaks to the nose (below 1) or away from it. Lids follow a share of the cornea's movement, `follow_upper` and
# `follow_lower`. `aperture` is the open share of both heights.
FACE: Ranges = {
    "x": (-1.4, 1.4), "y": (-1.2, 1.2), "zoom": (0.93, 1.08), "roll": (-0.09, 0.09),
    "ball_x": (-0.5, 0.5), "ball_y": (-1.0, 0.0), "half_width": (13.2, 15.0), "tilt": (0.2, 2.2),
    "upper": (4.6, 6.4), "lower": (3.7, 5.0), "upper_peak": (0.80, 1.0), "lower_peak": (1.0, 1.25),
    "follow_upper": (0.6, 0.75), "follow_lower": (0.3, 0.45), "aperture": (0.78, 1.04),
    "iris_radius": (5.6, 6.3), "crease_height": (2.2, 4.6), "brow_height": (12.5, 20.0), "brow_thickness": (2.2, 4.0),
}  # fmt: skip
# A renderer's look: fair skins, pale irises, white sclera, crisp light from above. The numbers are levels of surfaces,
# strengths of darkening, lengths in mm, `light_x` and `light_y` of the unit vector to the light, and texture offsets.
CLEAN_LOOK: Ranges = {
    "skin": (0.55, 0.85), "blotches": (0.02, 0.05), "pores": (0.01, 0.03), "wrinkles": (0.0, 0.05),
    "crease": (0.2, 0.5), "socket": (0.15, 0.5), "lid_tone": (0.96, 1.04),
    "iris": (0.22, 0.52), "iris_texture": (0.05, 0.2), "limbus": (0.3, 0.7), "limbus_width": (0.25, 0.5),
    "pupil_radius": (1.5, 2.9), "pupil": (0.03, 0.07), "sclera": (0.90, 1.05), "veins": (0.0, 0.08),
    "lid_shadow": (0.15, 0.35), "caruncle": (0.45, 0.65), "rim": (0.6, 0.8),
    "lash_line": (0.4, 0.8), "lash_width": (0.4, 0.6), "lashes": (0.3, 0.7), "lower_lashes": (0.1, 0.5),
    "brow": (0.3, 0.7), "eyeshadow": (0.0, 0.0),
    "light_x": (-0.35, 0.35), "light_y": (-0.75, -0.3), "ambient": (0.3, 0.55),
    "glint": (0.6, 1.0), "glint_radius": (0.5, 0.9), "glint_x": (-0.2, 0.2), "glint_y": (-0.3, 0.0),
    "texture_x": (0, BANK), "texture_y": (0, BANK),
}  # fmt: skip


@dataclass(frozen=True)
class Eyes:
    """N eyes; each parameter of the tables above is an attribute, N x 1 x 1, to broadcast over images N x H x W."""

    parameters: Mapping[str, Floats]

    @classmethod
    def draw(cls, rng: np.random.Generator, count: int, ranges: Ranges, **given: NDArray[np.float64]) -> "Eyes":
        """Return `count` eyes; parameters that are not `given` (each N) are uniform in their ranges."""
        values = given | {name: rng.uniform(*ends, count) for name, ends in ranges.items() if name not in given}
        return cls({name: np.asarray(value, np.float32).reshape(-1, 1, 1) for name, value in values.items()})

    def __getattr__(self, name: str) -> Floats:
        return self.parameters[name]

    def __len__(self) -> int:
        return len(self.pitch)

    def __getitem__(self, part: slice) -> "Eyes":
        return Eyes({name: values[part] for name, values in self.parameters.items()})

    def gaze(self) -> tuple[Floats, Floats, Floats]:
        """Return the unit vectors of gaze: x right, y down, z away from the camera, each N x 1 x 1."""
        return (
            -np.cos(self.pitch) * np.sin(self.yaw),
            -np.sin(self.pitch),
            -np.cos(self.pitch) * np.cos(self.yaw),
        )

    def scale(self, size: tuple[int, int]) -> Floats:
        """Return pixels per millimetre in images of `size` (H, W)."""
        scale: Floats = self.zoom * np.float32(size[1] / FIELD)
        return scale

    def lids(self, x: Floats) -> tuple[Floats, Floats]:
        """Return y of the upper and lower lid's margin at `x`, in mm of the eye's frame; closed beyond the corners."""
        t = np.clip((x + self.half_width) / (2 * self.half_width), 0, 1)
        lift = EYEBALL * np.sin(self.pitch)
        upper = np.maximum(self.aperture * (self.upper + self.follow_upper * lift), 0.6)
        lower = np.maximum(self.aperture * (self.lower - self.follow_lower * lift), 0.6)
        corners = -self.tilt * np.clip(x / self.half_width, -1, 1)
        beyond = np.maximum(np.abs(x) - self.half_width, 0)
        top = corners - upper * _arch(t, self.upper_peak) + beyond
        bottom = corners + lower * _arch(t, self.lower_peak) - beyond
        return top, bottom

    def pupil_centres(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """Return the centres of pupil and iris in pixels of images of `size` (H, W), N x 2 as x, y."""
        gx, gy, _ = self.gaze()
        return self._pixels(self.ball_x + IRIS_DISTANCE * gx, self.ball_y + IRIS_DISTANCE * gy, size)[:, 0]

    def landmarks(self, size: tuple[int, int]) -> dict[str, NDArray[np.float64]]:
        """Return the lid margin N x 16 x 2, caruncle N x 7 x 2 and iris edge N x 32 x 2, in pixels, y down."""
        across = np.linspace(-1, 1, 9, dtype=np.float32) * self.half_width
        top, bottom = (lid + self.roll * across for lid in self.lids(across))
        margin_x = np.concatenate([across, across[:, :, 7:0:-1]], 2)
        margin_y = np.concatenate([top, bottom[:, :, 7:0:-1]], 2)
        turn = np.linspace(0, 2 * np.pi, 32, endpoint=False, dtype=np.float32)
        (ax, _, _), (bx, by, _) = self.iris_axes()
        gx, gy, _ = self.gaze()
        c, s = self.iris_radius * np.cos(turn), self.iris_radius * np.sin(turn)
        iris_x = self.ball_x + IRIS_DISTANCE * gx + ax * c + bx * s
        iris_y = self.ball_y + IRIS_DISTANCE * gy + by * s
        around = turn[:28:4]
        corner_x = -self.half_width + 1 + np.cos(around)
        corner_y = self.tilt - self.roll * self.half_width + np.sin(around) * np.ones_like(self.tilt)
        return {
            "interior_margin_2d": self._pixels(margin_x, margin_y, size),
            "caruncle_2d": self._pixels(corner_x, corner_y, size),
            "iris_2d": self._pixels(iris_x, iris_y, size),
        }

    def _pixels(self, x: Floats, y: Floats, size: tuple[int, int]) -> NDArray[np.float64]:
        """Return positions in the eye's frame, N x 1 x K each, as pixels N x K x 2."""
        scale = self.scale(size)
        places = np.stack([(x + self.x) * scale + size[1] / 2, (y + self.y) * scale + size[0] / 2], axis=-1)
        return places[:, 0].astype(np.float64)

    def iris_axes(self) -> tuple[tuple[Floats, ...], tuple[Floats, ...]]:
        """Return two unit vectors orthogonal to the gaze, the first one horizontal."""
        gx, gy, gz = self.gaze()
        flat = np.hypot(gx, gz)
        ax, az = -gz / flat, gx / flat
        return (ax, np.zeros_like(ax), az), (gy * az, gz * ax - gx * az, -gy * ax)


class _View:
    """Positions of the pixels of images of `size` (H, W): mm from the middle of the eye, the ball and the lids."""

    def __init__(self, eyes: Eyes, size: tuple[int, int]) -> None:
        height, width = size
        self.scale = eyes.scale(size)
        self.x = (np.arange(width, dtype=np.float32) + np.float32(0.5 - width / 2)) / self.scale - eyes.x  # N x 1 x W
        y = (np.arange(height, dtype=np.float32)[:, None] + np.float32(0.5 - height / 2)) / self.scale - eyes.y
        self.u, self.v = self.x - eyes.ball_x, y - eyes.ball_y
        self.y = y - eyes.roll * self.x  # a shear for the small roll of a head, so that x depends on columns alone
        self.top, bottom = eyes.lids(self.x)
        self.below_top = (self.y - self.top) / self._steepness(self.top)  # positive on the eye
        self.above_bottom = (bottom - self.y) / self._steepness(bottom)
        self.column, self.row = self.x / TEXEL + eyes.texture_x, y / TEXEL + eyes.texture_y
        self.textures = _textures(round(FIELD / TEXEL / width, 2))

    def _steepness(self, curve: Floats) -> Floats:
        slope = np.gradient(curve, axis=2) / (self.x[:, :, 1:2] - self.x[:, :, :1])
        steepness: Floats = np.sqrt(1 + np.minimum(slope**2, 4))
        return steepness

    def inside(self, distance: Floats, blur: float | Floats = 0.0) -> Floats:
        """Return the share of a pixel inside an edge at `distance` mm, which is `blur` mm soft."""
        return np.clip(distance / (blur + 1 / self.scale) + np.float32(0.5), 0, 1)

    def texture(self, name: str, column: Floats, row: Floats) -> Floats:
        """Return a repeating texture at these texels, N x H x W."""
        rows, columns = row.astype(np.int32) & (BANK - 1), column.astype(np.int32) & (BANK - 1)
        texture: Floats = self.textures[name][rows, columns]
        return texture


def render(eyes: Eyes, size: tuple[int, int]) -> Floats:
    """Return clean renders N x H x W in [0, 1]; about 64 at a time are fastest."""
    view = _View(eyes, size)
    image = _skin(eyes, view)
    opening = view.inside(np.minimum(view.below_top, view.above_bottom))
    image += opening * (_ball(eyes, view) - image)
    _add_margins(image, eyes, view)
    image += opening * _glint(eyes, view) * (1 - image)
    return np.clip(image, 0, 1, out=image)


def _skin(eyes: Eyes, view: _View) -> Floats:
    x, y, below_top, above_bottom = view.x, view.y, view.below_top, view.above_bottom
    # Slopes of the surface: lids over the ball, the side of the nose, the temple, the ridge of the brow.
    brow = y + eyes.brow_height
    on_ball = np.exp(-((view.u / 15) ** 4)) * np.exp(-((view.v / 10) ** 4))
    nx = on_ball * (view.u / LID_BULGE) + 0.8 * _step(-x - 14, 10) + 0.3 * _step(x - 18, 8)
    ny = on_ball * (view.v / LID_BULGE) + 0.9 * np.exp(-(((brow - 4) / 4) ** 2))
    level = eyes.skin * _light(eyes, nx, ny)
    # Less light reaches the hollow at the nose's side, below the brow, and below the lower lid.
    around = np.exp(-((x / 15) ** 2))
    level *= 1 - eyes.socket * np.exp(-(((x + 15) / 7) ** 2)) * np.exp(-(((y + 5) / 6) ** 2))
    level *= 1 - 0.7 * eyes.socket * np.exp(-(((brow - 4) / 3.5) ** 2))
    level *= 1 - 0.4 * eyes.socket * around * np.exp(-(((above_bottom + 4.5) / 2.2) ** 2))
    # The fold of the upper lid stays where it is while the lid goes down.
    drop = np.maximum(-np.sin(eyes.pitch), -0.15) * EYEBALL * 0.5
    ends = np.exp(-((x / (eyes.half_width * 1.05)) ** 4))
    fold = y - view.top + (eyes.crease_height + drop) * (0.45 + 0.55 * ends)
    level *= 1 - eyes.crease * ends * (np.exp(-((fold / 0.7) ** 2)) - 0.3 * np.exp(-(((fold + 1.6) / 1.2) ** 2)))
    level *= 1 + ends * _step(fold, 1) * _step(-below_top, 1) * (eyes.lid_tone - 1)
    # The lids are darker and redder at their edges, most at the corners of the eye.
    outside = np.maximum(-np.minimum(below_top, above_bottom), 0)
    level *= 1 - 0.35 * np.exp(-outside / 0.9) * _step(eyes.half_width + 3 - np.abs(x), 4)
    # Texture: pores, blotches, wrinkles that run along the lids, hair.
    level *= 1 + eyes.pores * view.texture("fine", view.column, view.row)
    level *= 1 + eyes.blotches * view.texture("coarse", view.column, view.row)
    level *= 1 + eyes.wrinkles * ends * view.texture("coarse", view.column / 4, 25 * outside + eyes.texture_y)
    edge = (brow - 0.010 * (x - 4) ** 2) / eyes.brow_thickness
    level *= 1 - eyes.brow * np.exp(-(edge**4)) * _step(x + 15, 3) * view.texture("hair", view.column, view.row)
    return level


def _ball(eyes: Eyes, view: _View) -> Floats:
    u, v, inward = view.u, view.v, eyes.half_width - np.abs(view.x)
    level = eyes.sclera * _light(eyes, u / EYEBALL, v / EYEBALL)
    level *= 1 - eyes.veins * np.minimum(np.abs(u) / 12, 1) * view.texture("veins", view.column, view.row)
    level *= 1 - 0.4 * np.exp(-inward / 2)
    # The iris is a disc in a plane orthogonal to the gaze; a pixel's ray meets it at the coordinates a and b.
    (ax, _, az), (bx, by, bz) = eyes.iris_axes()
    gx, gy, gz = eyes.gaze()
    depth, depth_u, depth_v = IRIS_DISTANCE / gz, -gx / gz, -gy / gz
    a = (ax + az * depth_u) * u + (az * depth_v * v + az * depth)
    b = (bx + bz * depth_u) * u + ((by + bz * depth_v) * v + bz * depth)
    radius = np.sqrt(a * a + b * b)
    share = radius / eyes.iris_radius
    angle = np.arctan2(b, a) * np.float32(BANK / (2 * np.pi))
    iris = 1 + eyes.iris_texture * view.texture("streaks", angle + eyes.texture_x, share * 60 + eyes.texture_y)
    iris *= 1 + 0.25 * np.clip(b / eyes.iris_radius, -1, 1)  # light from above gathers at its lower side
    iris *= eyes.iris * (1 - eyes.limbus * _step(share - 0.9, 0.2))
    iris += view.inside(eyes.pupil_radius - radius) * (eyes.pupil - iris)
    level += view.inside(eyes.iris_radius - radius, eyes.limbus_width) * (iris - level)
    corner = np.exp(-(((view.x + eyes.half_width - 0.5) / 2.3) ** 4))
    level += corner * (eyes.caruncle - level)
    above, below = np.maximum(view.below_top, 0), np.maximum(view.above_bottom, 0)
    level *= 1 - eyes.lid_shadow * (np.exp(-above / 1.8) + 0.4 * np.exp(-below))
    return level


def _add_margins(image: Floats, eyes: Eyes, view: _View) -> None:
    """Draw the moist rim of the lower lid, and the lashes of both."""
    between = _step(eyes.half_width - np.abs(view.x), 2)
    rim = between * view.inside(0.4 - np.abs(view.above_bottom + 0.35))
    image += 0.7 * rim * (eyes.rim * _light(eyes, 0, 0.2) - image)
    image *= 1 - eyes.lash_line * between * np.exp(-(((view.below_top - 0.1) / eyes.lash_width) ** 2))
    lid = np.exp(-((np.minimum(view.below_top + 1.5, 0) / 2.5) ** 2)) * _step(0.3 - view.below_top, 1)
    image *= 1 - eyes.eyeshadow * between * lid
    for margin, strength, shortness in (
        (view.below_top, eyes.lashes, 1.0),
        (view.above_bottom, eyes.lower_lashes, 1.8),
    ):
        up = np.clip(-shortness / TEXEL * margin + LASH_ROOT, 0, BANK - 1)
        image *= 1 - strength * between * view.texture("lashes", view.column * shortness, up)


def _glint(eyes: Eyes, view: _View) -> Floats:
    """Return the lamp's reflection, where the cornea's normal halves the angle between lamp and camera."""
    gx, gy, _ = eyes.gaze()
    du = view.u - CORNEA_DISTANCE * gx - CORNEA * eyes.glint_x
    dv = view.v - CORNEA_DISTANCE * gy - CORNEA * eyes.glint_y
    away = np.sqrt(np.sqrt(du**4 + dv**4))  # a rounded square, like lamps and windows
    return eyes.glint * view.inside(eyes.glint_radius - away)


def _light(eyes: Eyes, nx: Floats | float, ny: Floats | float) -> Floats:
    """Return the brightness of a surface with these slopes: ambient light and Lambert's law."""
    lz = np.sqrt(1 - eyes.light_x**2 - eyes.light_y**2)
    facing = (nx * eyes.light_x + ny * eyes.light_y + lz) / np.sqrt(1 + nx * nx + ny * ny)
    light: Floats = eyes.ambient + (1 - eyes.ambient) * np.maximum(facing, 0)
    return light


def _arch(t: Floats, peak: Floats) -> Floats:
    """Return an arch over t in [0, 1], rounder than a sine, with its height of 1 at 0.5 ** (1 / peak)."""
    arch: Floats = np.sin(np.pi * t**peak).clip(0, 1) ** 0.8
    return arch


def _step(distance: Floats, width: float) -> Floats:
    """Return a ramp from 0 to 1 over `width` mm around 0."""
    return np.clip(distance / np.float32(width) + np.float32(0.5), 0, 1)


@cache
def _textures(pixel: float) -> dict[str, Floats]:
    """Return the textures, filtered for pixels of `pixel` texels."""
    return {name: _smoothed(texture, 0.7 * pixel, 0.7 * pixel) for name, texture in _sharp_textures().items()}


@cache
def _sharp_textures() -> dict[str, Floats]:
    """Return textures BANK x BANK: noise of mean 0 and standard deviation 1, or coverage in [0, 1]."""
    rng = np.random.default_rng(55)
    return {
        "fine": _noise(rng, 5, 5),
        "coarse": _noise(rng, 22, 22),
        "streaks": 0.7 * _noise(rng, 7, 40) + 0.5 * _noise(rng, 12, 6),
        "veins": np.exp(-((_noise(rng, 9, 9) / 0.2) ** 2)),
        "hair": np.clip(0.6 + 0.5 * _noise(rng, 2.5, 14, slant=0.6), 0, 1),
        "lashes": _lashes(rng),
    }


def _noise(rng: np.random.Generator, across: float, down: float, slant: float = 0.0) -> Floats:
    """Return repeating noise, smooth over `across` and `down` texels."""
    noise = _smoothed(rng.normal(size=(BANK, BANK)), across, down, slant)
    noise /= noise.std()
    return noise


def _smoothed(texture: NDArray[Any], across: float, down: float, slant: float = 0.0) -> Floats:
    """Return a repeating texture, blurred by a Gaussian whose standard deviation is 0.7 of these texels."""
    fx, fy = np.meshgrid(np.fft.fftfreq(BANK), np.fft.fftfreq(BANK))
    response = np.exp(-(np.pi**2) * ((fx * across) ** 2 + ((fy - slant * fx) * down) ** 2))
    smoothed: Floats = np.fft.ifft2(np.fft.fft2(texture) * response).real.astype(np.float32)
    return smoothed


def _lashes(rng: np.random.Generator) -> Floats:
    """Return lashes on a lid's margin: columns along it, rows up from LASH_ROOT."""
    picture = np.zeros((BANK, BANK), np.float32)
    rows, columns = np.mgrid[LASH_ROOT : LASH_ROOT + LASH_LENGTH, :BANK].astype(np.float32)
    for root in np.arange(0, BANK, 8) + rng.uniform(-4, 4, BANK // 8):
        length, lean, bend = rng.uniform(12, LASH_LENGTH), rng.uniform(-0.4, 0.8), rng.uniform(0, 0.5)
        up = (rows - LASH_ROOT) / np.float32(length)
        away = (columns - root - length * (lean * up + bend * up**2) + BANK / 2) % BANK - BANK / 2
        lash = np.clip(1.8 * np.sqrt(np.clip(1 - up, 0, 1)) - np.abs(away) + 0.5, 0, 1) * (up < 1)
        np.maximum(picture[LASH_ROOT : LASH_ROOT + LASH_LENGTH], lash, out=picture[LASH_ROOT : LASH_ROOT + LASH_LENGTH])
    return picture
