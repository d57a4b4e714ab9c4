"""Images of batch runs: a folder of forty with odd and broken ones, and a film."""

import shutil

import cv2
import numpy as np
import odd_images

from fgseg.images.writing import write_image

FORTY = 40
BAD = ("bad/empty.jpg", "bad/truncated.png")
DUPLICATE = "plain_00_again.png"


def write_forty(folder):
    """Write 40 small images: six odd ones, two broken ones, and one whose content is that of another."""
    (folder / "odd").mkdir(parents=True)
    (folder / "bad").mkdir()
    for build in (
        odd_images.gray_png, odd_images.palette_png, odd_images.alpha_png, odd_images.sixteen_bit_png,
        odd_images.exif_rotated_jpeg,
    ):  # fmt: skip
        build(folder / "odd")
    write_image(folder / "odd" / "pixel.png", np.full((1, 1, 3), 200, np.uint8))
    odd_images.empty_file(folder / "bad")
    odd_images.truncated_png(folder / "bad")
    (folder / "bad" / "rgb.png").unlink()  # of which the other is the beginning
    random = np.random.RandomState(31)
    for number in range(31):
        height, width = random.randint(16, 49, 2)
        colors = random.randint(0, 256, (2, 2, 3), np.uint8)
        picture = colors.repeat(height // 2, axis=0).repeat(width // 2, axis=1)
        write_image(folder / f"plain_{number:02d}.png", picture)
    shutil.copy(folder / "plain_00.png", folder / DUPLICATE)
    assert sum(path.is_file() for path in folder.rglob("*")) == FORTY
    return folder


def write_video(path, frames=8):
    """A film whose frame n has the level 20 + 20 n everywhere."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, (32, 16))
    for number in range(frames):
        writer.write(np.full((16, 32, 3), 20 + 20 * number, np.uint8))
    writer.release()
    return path
