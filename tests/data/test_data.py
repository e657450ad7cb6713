import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch.nn import functional as F

from rift import data
from rift.config import Augment, Data
from rift.data.augmentation import augment, resized_crops
from rift.data.images import Images
from rift.data.prepared import SPLITS
from rift.errors import RiftError
from rift.training.epoch import EpochState, cut_into_batches


def test_digits_are_cut_whole_stratified_and_apart(prepared: data.Prepared) -> None:
    images = {split: prepared.images[split] for split in SPLITS}
    assert all(
        pixels.shape[1:] == (1, 8, 8) and pixels.dtype == np.uint8 for pixels in images.values()
    )
    assert sum(map(len, images.values())) == 1797
    assert prepared.classes == tuple("0123456789")

    original = np.round(load_digits().images * 255 / 16).astype(np.uint8)
    together = np.concatenate([pixels[:, 0] for pixels in images.values()])
    assert sorted(image.tobytes() for image in together) == sorted(
        image.tobytes() for image in original
    )

    whole = np.bincount(load_digits().target)
    assert np.abs(np.bincount(prepared.labels["test"]) - 0.2 * whole).max() <= 0.5
    left = whole - np.bincount(prepared.labels["test"])
    assert np.abs(np.bincount(prepared.labels["validation"]) - 0.2 * left).max() <= 0.5


def test_every_image_keeps_its_label(prepared: data.Prepared) -> None:
    bunch = load_digits()
    known: dict[bytes, set[int]] = {}
    for image, label in zip(
        np.round(bunch.images * 255 / 16).astype(np.uint8), bunch.target, strict=True
    ):
        known.setdefault(image.tobytes(), set()).add(int(label))
    for split in SPLITS:
        for image, label in zip(prepared.images[split], prepared.labels[split], strict=True):
            assert int(label) in known[image.tobytes()]


def test_a_range_of_classes_is_a_data_set_of_its_own() -> None:
    part = data.prepare("digits-5-9", Data(test=0.2))
    bunch = load_digits()
    inside = bunch.target >= 5
    assert part.classes == tuple("56789")
    expected = sorted(
        (np.round(image * 255 / 16).astype(np.uint8).tobytes(), int(label) - 5)
        for image, label in zip(bunch.images[inside], bunch.target[inside], strict=True)
    )
    assert expected == sorted(
        (image.tobytes(), int(label))
        for split in SPLITS
        for image, label in zip(part.images[split], part.labels[split], strict=True)
    )
    assert part.facts["dataset"] == "digits-5-9"
    counts = np.bincount(bunch.target[inside] - 5)
    assert np.abs(np.bincount(part.labels["test"]) - 0.2 * counts).max() <= 0.5


@pytest.mark.parametrize("name", ["digits-5-10", "digits-4-4", "digits-6-2"])
def test_a_range_that_the_data_set_lacks_is_refused(name: str) -> None:
    with pytest.raises(RiftError, match=f"data set {name}: must name at least two.* 0 to 9"):
        data.prepare(name, Data())


def test_mean_and_deviation_are_those_of_the_training_split(prepared: data.Prepared) -> None:
    pixels = prepared.images["train"].astype(np.float64) / 255
    assert prepared.mean == pytest.approx((pixels.mean(),), abs=1e-6)
    assert prepared.std == pytest.approx((pixels.std(),), abs=1e-6)


def test_the_last_images_can_be_the_selection_split() -> None:
    drawn, last = (
        data.prepare("digits", Data(cut=cut, validation=0.2)) for cut in ("stratified", "last")
    )
    assert np.array_equal(drawn.images["test"], last.images["test"])
    left = len(last.labels["train"]) + len(last.labels["validation"])
    assert len(last.labels["validation"]) == round(0.2 * left)
    # The file contains the training images first, then the selection split.
    bunch = load_digits()
    order = [np.round(image * 255 / 16).astype(np.uint8).tobytes() for image in bunch.images]
    places = [
        order.index(image.tobytes())
        for split in ("train", "validation")
        for image in last.images[split]
    ]
    assert places == sorted(places)


def test_the_cut_depends_on_the_seed_alone() -> None:
    same, again, other = (data.prepare("digits", Data(seed=seed)) for seed in (1, 1, 2))
    assert np.array_equal(same.images["test"], again.images["test"])
    assert not np.array_equal(same.images["test"], other.images["test"])


def stored(images: Images) -> torch.Tensor:
    """Return the stored values."""
    seen: list[torch.Tensor] = []

    def look(pixels: torch.Tensor) -> torch.Tensor:
        seen.append(pixels)
        return pixels

    images.replaced(look)
    (pixels,) = seen
    return pixels


@settings(max_examples=25)
@given(crop=st.integers(0, 3), flip=st.booleans(), seed=st.integers(0, 2**31))
def test_augmentation_is_reflected_padding_cropping_and_flipping(
    crop: int, flip: bool, seed: int
) -> None:
    images = torch.randint(
        0, 256, (6, 3, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )
    labels = torch.arange(6)
    stream = torch.Generator().manual_seed(seed)
    result = augment(Images.of(images, labels), Augment(crop=crop, flip=flip), stream)
    assert torch.equal(result.labels, labels)
    augmented = stored(result)
    assert augmented.shape == images.shape
    assert augmented.dtype == torch.uint8
    padded = F.pad(images.float(), (crop,) * 4, mode="reflect").to(torch.uint8) if crop else images
    for index, image in enumerate(augmented):
        crops = [
            padded[index, :, top : top + 5, left : left + 7]
            for top in range(2 * crop + 1)
            for left in range(2 * crop + 1)
        ]
        crops += [candidate.flip(2) for candidate in crops] if flip else []
        assert any(torch.equal(image, candidate) for candidate in crops)


@pytest.mark.parametrize("crop", [5, 9, 20])
def test_a_shift_as_large_as_the_image_is_refused(crop: int) -> None:
    images = Images.of(torch.zeros((2, 1, 5, 7), dtype=torch.uint8), [0, 1])
    with pytest.raises(
        RiftError,
        match=rf"augment\.crop: a shift by {crop} pixels is too large for images of 5 × 7",
    ):
        augment(images, Augment(crop=crop), torch.Generator())


def test_augmentation_draws_every_shift_and_flips_half() -> None:
    image = torch.arange(49, dtype=torch.uint8).reshape(1, 1, 7, 7).repeat(4000, 1, 1, 1)
    images = Images.of(image, torch.zeros(4000, dtype=torch.int64))
    augmented = augment(images, Augment(crop=1, flip=True), torch.Generator().manual_seed(0))
    _, counts = torch.unique(stored(augmented).flatten(1), dim=0, return_counts=True)
    # There are nine shifts, each with and without mirroring.
    assert len(counts) == 18
    assert counts.min() > 150


@given(
    count=st.integers(1, 200),
    batch_size=st.integers(1, 60),
    least=st.integers(2, 8),
    seed=st.integers(0, 1000),
)
def test_a_pass_visits_every_image_once_and_leaves_no_small_batch(
    count: int, batch_size: int, least: int, seed: int
) -> None:
    order = EpochState.begin(1, count, torch.Generator().manual_seed(seed)).order
    parts = cut_into_batches(order, batch_size, least)
    assert torch.cat(parts).sort().values.tolist() == list(range(count))
    if count >= least and batch_size >= least:
        assert min(map(len, parts)) >= least
    assert max(map(len, parts)) < batch_size + least


def test_asking_for_more_images_than_there_are_is_refused(prepared: data.Prepared) -> None:
    test = prepared.split("test")
    assert len(test.first(7, "x").labels) == 7
    assert len(test.first("all", "x").labels) == len(test.labels)
    with pytest.raises(
        RiftError, match=r"evaluate\.pgd\.images: is 9999, but the split has 359 images"
    ):
        test.first(9999, "evaluate.pgd.images")


def test_floats_keep_values() -> None:
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(Images.of(images, [0]).floats(), images.float() / 255)


@settings(max_examples=30)
@given(st.floats(0.05, 1), st.booleans(), st.integers(0, 2**31))
def test_a_resized_crop_is_a_part_of_the_image(area: float, flip: bool, seed: int) -> None:
    """On an image whose grey levels rise along one side, a part is a narrower range of levels."""
    side = 32
    ramp = torch.linspace(0, 1, side).repeat(64, 1, side, 1)  # rises from left to right
    stream = torch.Generator().manual_seed(seed)
    across = resized_crops(ramp, area, flip=flip, generator=stream)
    assert across.shape == ramp.shape
    torch.testing.assert_close(across, across[:, :, :1].expand_as(across))
    steps = across[:, 0, 0].diff(dim=1)
    inside = steps[:, 3:-3]  # the border is not interpolated
    torch.testing.assert_close(inside, inside[:, :1].expand_as(inside), atol=1e-5, rtol=1e-3)
    # Its width is that of the part: at least the square root of the area at the narrowest ratio.
    widths = inside[:, 0].abs() * (side - 1)
    assert widths.max() <= 1 + 1e-4
    assert widths.min() >= (area * 3 / 4) ** 0.5 - 1e-4
    assert flip or (inside > 0).all()


def test_resized_crops_are_spread_over_the_image_and_half_are_mirrored() -> None:
    ramp = torch.linspace(0, 1, 32).repeat(4000, 1, 32, 1)
    parts = resized_crops(ramp, 0.25, flip=True, generator=torch.Generator().manual_seed(0))
    middles = parts[:, 0, 16, 15:17].mean(1)
    assert middles.mean() == pytest.approx(0.5, abs=0.01)
    # Areas are uniform from 0.25 to 1, so the mean of their roots is 2/3 · (1 − 1/8) / (3/4) = 7/9.
    widths = (parts[:, 0, 16, 20] - parts[:, 0, 16, 10]).abs() * 31 / 10
    assert widths.mean() == pytest.approx(7 / 9, abs=0.02)
    assert ((parts[:, 0, 16, 20] < parts[:, 0, 16, 10]).float().mean()) == pytest.approx(
        0.5, abs=0.03
    )


def test_resized_crops_keep_the_type_of_stored_images() -> None:
    images = Images.of(torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8), torch.arange(5))
    asked = Augment(smallest_area=0.08)
    parts = [augment(images, asked, torch.Generator().manual_seed(1)) for _ in range(2)]
    assert stored(parts[0]).dtype == torch.uint8
    assert torch.equal(stored(parts[0]), stored(parts[1]))
    whole = augment(images, Augment(smallest_area=1, flip=False), torch.Generator().manual_seed(1))
    assert not torch.equal(stored(whole), stored(parts[0]))
