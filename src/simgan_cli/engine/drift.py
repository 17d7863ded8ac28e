"""How far image content moved: labels that name places stay true only where it did not."""

import torch
from torch import Tensor

SMALLEST_SIDE = 8  # of images that are worth measuring, in pixels
LARGEST_SHARE = 4  # shifts beyond 1/4 of the shorter side are not looked for


def drift(before: Tensor, after: Tensor) -> Tensor:
    """Return the shift of each image's content in pixels, N, from N x 1 x H x W images on one device.

    Correlation of the gradients, of which strong ones count little more than middling ones (orientation correlation,
    Fitch et al., BMVC 2002, which takes their directions alone): changes of brightness and contrast do not count, nor
    does a glint that goes out here and lights up there. The peak is refined to fractions of a pixel by a parabola.
    Images without any edge have no shift. It sees the image as a whole: of a part that moves alone, only a share.
    """
    first, second = (_gradients(images[:, 0].to(torch.float32)) for images in (before, after))
    surface = torch.fft.ifft2(torch.fft.fft2(first).conj() * torch.fft.fft2(second)).real
    reach = max(1, min(surface.shape[1:]) // LARGEST_SHARE)
    window = torch.roll(surface, (reach, reach), dims=(1, 2))[:, : 2 * reach + 1, : 2 * reach + 1]
    return _peak_distance(window, reach)


def _gradients(images: Tensor) -> Tensor:
    """Return dx + i dy (central differences), softly limited, under a Hann window, N x (H-2) x (W-2), complex."""
    dx = images[:, 1:-1, 2:] - images[:, 1:-1, :-2]
    dy = images[:, 2:, 1:-1] - images[:, :-2, 1:-1]
    rows, columns = (
        torch.hann_window(length + 2, periodic=False, device=images.device)[1:-1] for length in dx.shape[1:]
    )
    gradients = torch.complex(dx, dy)
    strength = gradients.abs()
    limit = strength.mean(dim=(1, 2), keepdim=True) + 1e-12
    return gradients / torch.hypot(strength, limit) * (rows[:, None] * columns[None, :])


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
