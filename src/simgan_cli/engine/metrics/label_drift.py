"""Shift of image content: labels that name places stay true only where it did not move."""

import torch
from torch import Tensor

MIN_SIDE_PIXELS = 8  # of images that can be measured
MAX_SHIFT_FRACTION = 0.25  # of the shorter side; larger shifts are not looked for
MAX_BATCH_PIXELS = 2**22  # four images of 1024x1024, whose transforms take some 350 MB
LUMA = (0.299, 0.587, 0.114)  # of red, green, blue (ITU-R 601)


def drift(before: Tensor, after: Tensor) -> Tensor:
    """Return the shift of each image's content in pixels, N, from N x 1 or 3 x H x W images on one device.

    Phase correlation of the gradients (Kuglin and Hines 1975; gradients as in Argyriou and Vlachos 2003): changes of
    brightness and contrast do not count. The result is the smaller of two shifts. Plain gradients mistake a glint that
    vanishes here and appears there for a shift; limited ones sometimes mistake a strong blur. A parabola refines the
    peak to fractions of a pixel. Images without edges have no shift. A part that moves alone counts by its share.
    """
    count = max(1, MAX_BATCH_PIXELS // (before.shape[2] * before.shape[3]))
    fields = (
        [_gradients(_grey(part)) for part in pair]
        for pair in zip(torch.split(before, count), torch.split(after, count), strict=True)
    )
    return torch.cat([torch.minimum(_shift(a, b), _shift(_limited(a), _limited(b))) for a, b in fields])


def _grey(images: Tensor) -> Tensor:
    """Return N x H x W float32, the luma of colour images."""
    images = images.to(torch.float32)
    return images[:, 0] if images.shape[1] == 1 else torch.tensordot(images, images.new_tensor(LUMA), dims=([1], [0]))


def _gradients(images: Tensor) -> Tensor:
    """Return dx + i dy (central differences), N x (H-2) x (W-2), complex."""
    dx = images[:, 1:-1, 2:] - images[:, 1:-1, :-2]
    dy = images[:, 2:, 1:-1] - images[:, :-2, 1:-1]
    return torch.complex(dx, dy)


def _limited(gradients: Tensor) -> Tensor:
    """Return gradients divided by hypot(strength, the image's mean strength), which limits strong ones to 1."""
    strength = gradients.abs()
    mean = strength.mean(dim=(1, 2), keepdim=True) + 1e-12
    return gradients / torch.hypot(strength, mean)


def _shift(first: Tensor, second: Tensor) -> Tensor:
    """Return the distance of phase correlation's peak from no shift, N, of complex N x H x W under a Hann window."""
    rows, columns = (
        torch.hann_window(length + 2, periodic=False, device=first.device)[1:-1] for length in first.shape[1:]
    )
    window = rows[:, None] * columns[None, :]
    cross = torch.fft.fft2(first * window).conj() * torch.fft.fft2(second * window)
    # Only phases count; the floor damps frequencies that hold only noise.
    strength = cross.abs()
    floor = strength.amax(dim=(1, 2), keepdim=True) * 1e-3 + 1e-12
    surface = torch.fft.ifft2(cross / (strength + floor)).real
    reach = max(1, int(min(surface.shape[1:]) * MAX_SHIFT_FRACTION))
    near = torch.roll(surface, (reach, reach), dims=(1, 2))[:, : 2 * reach + 1, : 2 * reach + 1]
    return _peak_distance(near, reach)


def _peak_distance(window: Tensor, centre: int) -> Tensor:
    """Return the distance of each surface's peak from its centre; 0 where the surface is flat."""
    count, height, width = window.shape
    best = window.reshape(count, -1).argmax(dim=1)
    row, column = best // width, best % width
    index = torch.arange(count, device=window.device)

    def fraction(before: Tensor, peak: Tensor, after: Tensor) -> Tensor:
        curvature = before - 2 * peak + after
        return torch.where(curvature < 0, 0.5 * (before - after) / curvature, 0)  # at most half a pixel from a peak

    def at(rows: Tensor, columns: Tensor) -> Tensor:
        return window[index, rows.clamp(0, height - 1), columns.clamp(0, width - 1)]

    peak = at(row, column)
    y = row - centre + fraction(at(row - 1, column), peak, at(row + 1, column))
    x = column - centre + fraction(at(row, column - 1), peak, at(row, column + 1))
    flat = window.amax(dim=(1, 2)) <= window.amin(dim=(1, 2)) + 1e-9
    return torch.where(flat, 0, torch.hypot(y, x))
