"""The digits of scikit-learn: 1,797 images, 8×8, 17 grey levels (Alpaydin and Kaynak 1998)."""

from pathlib import Path

import numpy as np

from rift.data.sources.source import Source, sha256


def digits(_root: Path) -> Source:
    """Read the digits from the installed scikit-learn; the data root is ignored.

    Grey levels 0 … 16 are scaled to 0 … 255. There is no official test split.
    """
    import sklearn.datasets

    bunch = sklearn.datasets.load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    file = Path(sklearn.datasets.__file__).parent / "data" / "digits.csv.gz"
    classes = tuple(str(label) for label in bunch.target_names)
    return Source(images, bunch.target.astype(np.int64), classes, {file.name: sha256(file)})
