"""The handwritten digits that scikit-learn ships: 1,797 real images, 8×8, 17 grey levels (Alpaydin and Kaynak 1998)."""

from pathlib import Path

import numpy as np

from rift.data.sources.source import Source, sha256


def digits(_root: Path) -> Source:
    """Read the digits; they come with scikit-learn, so the data root is not looked at.

    Grey levels 0 … 16 become 0 … 255. There is no official test split of these 1,797 images.
    """
    import sklearn.datasets

    bunch = sklearn.datasets.load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    file = Path(sklearn.datasets.__file__).parent / "data" / "digits.csv.gz"
    classes = tuple(str(label) for label in bunch.target_names)
    return Source(images, bunch.target.astype(np.int64), classes, {file.name: sha256(file)})
