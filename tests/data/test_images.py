"""Every common form of images gives the same images, in memory or streamed."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from rift.data.images import Images
from rift.errors import RiftError

PIXELS = torch.randint(
    0, 256, (23, 3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
LABELS = torch.arange(23) % 7


class Pairs(Dataset[tuple[Tensor, int]]):
    """A data set that returns an image, and its label as a plain number."""

    def __len__(self) -> int:
        return len(PIXELS)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        return PIXELS[place], int(LABELS[place])


FORMS: dict[str, Callable[[], Images]] = {
    "uint8 tensor": lambda: Images.of(PIXELS, LABELS),
    "numpy": lambda: Images.of(PIXELS.numpy(), LABELS.numpy()),
    "float tensor": lambda: Images.of(PIXELS.float() / 255, LABELS.tolist()),
    "float64 numpy": lambda: Images.of(PIXELS.numpy() / np.float64(255), LABELS),
    "Images": lambda: Images.of(Images.of(PIXELS, LABELS)),
    "Dataset": lambda: Images.of(Pairs()),
    "DataLoader": lambda: Images.of(DataLoader(TensorDataset(PIXELS, LABELS), batch_size=10)),
    "streamed Dataset": lambda: Images.of(Pairs(), memory_mib=0),
    "streamed DataLoader": lambda: Images.of(
        DataLoader(TensorDataset(PIXELS, LABELS), batch_size=10), memory_mib=0
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_images(form: str) -> None:
    images, floats = FORMS[form](), PIXELS.float() / 255
    assert (len(images), images.shape) == (23, (3, 4, 5))
    assert images.labels.dtype == torch.int64
    assert torch.equal(images.labels, LABELS)
    assert images.floats().dtype == torch.float32
    torch.testing.assert_close(images.floats(), floats, rtol=0, atol=1e-7)

    chosen = torch.tensor([20, 3, 3, 0])
    for index in (chosen, slice(4, 9), LABELS == 2):
        taken = images.take(index)
        assert torch.equal(taken.labels, LABELS[index])
        torch.testing.assert_close(taken.floats(), floats[index], rtol=0, atol=1e-7)

    batches = list(images.batches(10))
    assert [len(batch) for batch in batches] == [10, 10, 3]
    assert torch.equal(torch.cat([batch.labels for batch in batches]), LABELS)
    together = torch.cat([batch.floats() for batch in batches])
    torch.testing.assert_close(together, floats, rtol=0, atol=1e-7)


@pytest.mark.parametrize("form", ["Dataset", "streamed Dataset"])
def test_a_part_of_a_part_is_counted_from_its_own_beginning(form: str) -> None:
    part = FORMS[form]().take(slice(5, 20)).up_to(8).take(torch.tensor([7, 0]))
    assert torch.equal(part.labels, LABELS[[12, 5]])
    assert torch.equal(part.floats(), PIXELS[[12, 5]].float() / 255)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (PIXELS.float(), r"images: floats must be in \[0, 1\], but these are in \[0, 255\]"),
        (
            PIXELS.float() / 255 - 0.5,
            r"floats must be in \[0, 1\], but these are in \[-0\.5, 0\.5\]",
        ),
        (PIXELS.int(), r"images: are torch\.int32; convert them to torch\.uint8 or to floats"),
        (PIXELS[0], r"images: have shape \(3, 4, 5\); they must be N×C×H×W"),
        (torch.zeros(23, 8, 9, 3), r"have shape \(23, 8, 9, 3\), with channels last; permute to"),
        ([[1]], r"images: a list is not supported; pass a torch tensor"),
    ],
)
def test_other_types_ranges_and_shapes_are_refused(images: object, message: str) -> None:
    with pytest.raises(RiftError, match=message):
        Images.of(images, LABELS)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "labels: are missing"),
        (LABELS[:-1], r"labels: have shape \(22,\), but there are 23 images"),
        (LABELS.float(), r"labels: are torch\.float32; convert them to integers from 0"),
        (LABELS - 1, r"labels: contain -1; they must be integers from 0"),
    ],
)
def test_labels_that_do_not_belong_to_the_images_are_refused(labels: object, message: str) -> None:
    with pytest.raises(RiftError, match=message):
        Images.of(PIXELS, labels)


def test_a_data_set_brings_its_own_labels() -> None:
    with pytest.raises(RiftError, match="contains its own labels; omit labels"):
        Images.of(Pairs(), LABELS)


@pytest.mark.parametrize("memory_mib", [0, 1])
def test_a_loader_decides_which_images_it_reads(memory_mib: int) -> None:
    places = [7, 2, 20, 11]
    for options in ({"sampler": places, "batch_size": 3}, {"batch_sampler": [[7, 2], [20, 11]]}):
        given = Images.of(DataLoader(Pairs(), **options), memory_mib=memory_mib)
        assert torch.equal(given.labels, LABELS[places])
        assert torch.equal(given.floats(), PIXELS[places].float() / 255)


def test_a_loader_that_changes_images_is_not_streamed() -> None:
    def brighter(pairs: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
        images = torch.stack([image.clamp(min=100) for image, _ in pairs])
        return images, torch.tensor([label for _, label in pairs])

    loader = DataLoader(Pairs(), collate_fn=brighter, batch_size=10)
    assert torch.equal(Images.of(loader).floats(), PIXELS.clamp(min=100).float() / 255)
    with pytest.raises(RiftError, match="collate_fn of its own does not fit into memory"):
        Images.of(loader, memory_mib=0)
