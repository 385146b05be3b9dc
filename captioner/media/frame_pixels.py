"""One decoded frame to a bounded picture: upright, square pixels, 8-bit sRGB, all in one pass."""

from __future__ import annotations

from dataclasses import dataclass, field

from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from PIL import Image

from captioner.media.decode import bounded_size, encoded
from captioner.types import Picture, PixelBudget

UPRIGHT = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
SIDEWAYS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270)
# An unlabelled clip of so many lines or more is taken as BT.709, a smaller one as BT.601: what players do.
HD_LINES = 720
_UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED


@dataclass(slots=True, kw_only=True)
class Shrinker:
    """Makes pictures of a clip's frames, all of one size: that of the first one.

    aspect: a pixel's width over its height. upright: size in px as a viewer sees it; target: that of the pictures.
    """

    budget: PixelBudget
    aspect: float
    upright: tuple[int, int] = (0, 0)
    turned: bool = False
    target: tuple[int, int] = (0, 0)
    _scaler: VideoReformatter = field(default_factory=VideoReformatter)

    def picture(self, frame: VideoFrame) -> Picture:
        """The frame within the budget, as a JPEG of ours."""
        if not self.target[0]:
            self.measure(frame)
        turn = UPRIGHT.get(frame.rotation % 360)
        width, height = self.target[::-1] if turn in SIDEWAYS else self.target
        image = self._rgb(frame, width, height)
        return encoded(image if turn is None else image.transpose(turn))

    def measure(self, frame: VideoFrame) -> None:
        """Take the clip's size from its first frame, once."""
        wide, high = stretched(frame.width, frame.height, self.aspect)
        turn = UPRIGHT.get(frame.rotation % 360)
        self.upright = (high, wide) if turn in SIDEWAYS else (wide, high)
        self.turned = turn is not None
        self.target = bounded_size(*self.upright, self.budget)

    def _rgb(self, frame: VideoFrame, width: int, height: int) -> Image.Image:
        space = frame.colorspace
        if space == _UNSPECIFIED:
            space = Colorspace.ITU709 if frame.height >= HD_LINES else Colorspace.ITU601
        rgb = self._scaler.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            src_colorspace=space,
            src_color_range=frame.color_range or None,
            dst_color_range=ColorRange.JPEG,
            interpolation=Interpolation.BICUBIC,
            threads=1,
        )
        plane = rgb.planes[0]
        return Image.frombuffer("RGB", (width, height), bytes(plane), "raw", "RGB", plane.line_size, 1)


def stretched(width: int, height: int, aspect: float) -> tuple[int, int]:
    """The size in square pixels: the side that is too short grows, so that no line is lost."""
    if not 1 / 16 <= aspect <= 16:  # no display has such pixels: a broken header
        return width, height
    return (round(width * aspect), height) if aspect >= 1 else (width, round(height / aspect))
