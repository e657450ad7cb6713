"""Write the digits 0 to 4 as a folder of images and as arrays: stand-ins for your own data."""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

digits = load_digits(n_class=5)
pixels = (digits.images * 255 / 16).round().astype(np.uint8)  # N×8×8

for index, (image, label) in enumerate(zip(pixels, digits.target, strict=True)):
    split = "test" if index % 3 == 0 else "train"
    path = Path(f"data/pictures/{split}/digit-{label}/{index}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)

test = np.arange(len(pixels)) % 3 == 0
np.savez(
    "data/mine.npz",
    train_images=pixels[~test],
    train_labels=digits.target[~test],
    test_images=pixels[test],
    test_labels=digits.target[test],
)
