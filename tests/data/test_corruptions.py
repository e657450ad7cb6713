"""Compare each corruption with its definition, a slow loop or another implementation."""

import colorsys
import io
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_sample_images

from rift import data
from rift.artifacts import Array
from rift.config import CorruptionName
from rift.data.corruptions import CORRUPTIONS
from rift.data.corruptions.corrupting import CHUNK, corrupt, severities
from rift.data.corruptions.pixels import Images, to_uint8

RANDOM = {
    "gaussian_noise", "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "snow", "frost",
    "fog", "elastic_transform", "speckle_noise", "spatter",
}  # fmt: skip
# With the published parameters, the effect of these does not increase with every severity: less
# shift but more noise, less and then more colour, water and then mud, the same frost on a darker
# picture, or a narrower blur that is applied twice.
NOT_IN_ORDER = {"elastic_transform", "saturate", "spatter", "frost", "glass_blur"}


def photos(side: int) -> Array:
    """Return twelve pieces of two photographs, uint8, N×3×side×side."""
    pieces = [
        Image.fromarray(photo[top : top + 213, left : left + 213]).resize((side, side))
        for photo in load_sample_images().images
        for top in (0, 213)
        for left in (0, 213, 426)
    ]
    return np.stack([np.asarray(piece).transpose(2, 0, 1) for piece in pieces])


@pytest.fixture(scope="module", params=[32, 64])
def colour(request: pytest.FixtureRequest) -> Array:
    return photos(request.param)


@pytest.fixture(scope="module")
def pixels() -> Images:
    return photos(32).astype(np.float32) / np.float32(255)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_worsen_with_severity(name: CorruptionName, colour: Array) -> None:
    corrupted = corrupt(colour, name, seed=0)
    assert corrupted.shape == (5, *colour.shape)
    assert corrupted.dtype == np.uint8
    damage = [np.abs(level.astype(int) - colour).mean() for level in corrupted]
    assert min(damage) > 0.3
    if name not in NOT_IN_ORDER:
        assert all(later > 0.97 * earlier for earlier, later in pairwise(damage)), damage
        assert damage[-1] > 1.3 * damage[0]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_small_grey_images_are_corrupted_too(name: CorruptionName, prepared: data.Prepared) -> None:
    digits = prepared.images["test"][:CHUNK]
    corrupted = corrupt(digits, name, seed=0)
    assert corrupted.shape == (5, *digits.shape)
    if name == "saturate":
        assert (corrupted == digits).all()
    else:
        assert (np.abs(corrupted.astype(int) - digits).mean(axis=(1, 2, 3, 4)) > 0.1).sum() >= 4


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_first_images_of_many_are_those_of_few(name: CorruptionName) -> None:
    images = np.random.default_rng(0).integers(0, 256, (CHUNK + 9, 3, 8, 8), dtype=np.uint8)
    images[CHUNK] = images[0]
    many = corrupt(images, name, seed=1)
    for few in (7, CHUNK, CHUNK + 4):
        assert np.array_equal(corrupt(images[:few], name, seed=1), many[:, :few])
    other = corrupt(images, name, seed=2)
    if name in RANDOM:
        assert (other != many).any(axis=(1, 2, 3, 4)).all()
        assert (many[:, CHUNK] != many[:, 0]).any()
    else:
        assert np.array_equal(other, many)


def test_large_images_get_the_parameters_of_tiny_imagenet() -> None:
    assert severities(32)["contrast"] == severities(8)["contrast"] == [0.75, 0.5, 0.4, 0.3, 0.15]
    assert severities(33)["contrast"] == severities(64)["contrast"] == [0.4, 0.3, 0.2, 0.1, 0.05]
    for side in (32, 64):
        assert list(severities(side)) == list(CORRUPTIONS)
        assert all(len(levels) == 5 for levels in severities(side).values())


def test_noises_have_the_published_strength() -> None:
    grey = np.full((40, 1, 32, 32), 128, dtype=np.uint8)
    level = 128 / 255
    expected: dict[CorruptionName, float] = {
        "gaussian_noise": 0.08,
        "shot_noise": np.sqrt(level / 100),
        "speckle_noise": 0.12 * level,
    }
    for name, std in expected.items():
        noise = corrupt(grey, name, 0)[2] / 255.0 - level
        assert noise.std() == pytest.approx(std, rel=0.03), name
    salted = corrupt(grey, "impulse_noise", 0)[4]
    assert (salted == 255).mean() == pytest.approx(0.035, rel=0.1)
    assert (salted == 0).mean() == pytest.approx(0.035, rel=0.1)


def test_contrast_equals_its_definition(pixels: Images) -> None:
    mean = pixels.mean(axis=(2, 3), keepdims=True)
    assert (
        np.abs(corrupt(photos(32), "contrast", 0)[2] / 255.0 - ((pixels - mean) * 0.4 + mean)).max()
        < 1.5 / 255
    )


@pytest.mark.parametrize(("name", "level"), [("brightness", 4), ("saturate", 0), ("saturate", 4)])
def test_brightness_and_saturation_are_those_of_hsv(name: CorruptionName, level: int) -> None:
    parameters = severities(32)[name][level]
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 4), dtype=np.uint8)
    # One pixel is black, and one is grey.
    images[0, :, 0, 0], images[0, :, 0, 1] = 0, 90
    found = np.moveaxis(corrupt(images, name, 0)[level], 1, -1).reshape(-1, 3) / 255.0
    for colour, result in zip(np.moveaxis(images, 1, -1).reshape(-1, 3) / 255, found, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*colour)
        if name == "brightness":
            value = min(1, value + parameters)
        else:
            saturation = min(1, saturation * parameters[0] + parameters[1])
        assert tuple(result) == pytest.approx(
            colorsys.hsv_to_rgb(hue, saturation, value), abs=1.5 / 255
        )


def test_jpeg_and_pixelate_are_what_pillow_makes_of_the_image() -> None:
    for image, jpeg, coarse in zip(
        photos(32),
        corrupt(photos(32), "jpeg_compression", 0)[2],
        corrupt(photos(32), "pixelate", 0)[3],
        strict=True,
    ):
        picture = Image.fromarray(image.transpose(1, 2, 0))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=58)
        assert np.array_equal(jpeg, np.asarray(Image.open(buffer)).transpose(2, 0, 1))
        box = Image.Resampling.BOX
        assert np.array_equal(
            coarse,
            np.asarray(picture.resize((24, 24), box).resize((32, 32), box)).transpose(2, 0, 1),
        )


def test_blurs_keep_the_mean_and_match_a_slow_convolution() -> None:
    image = np.zeros((1, 1, 17, 17), dtype=np.uint8)
    image[0, 0, 8, 8] = 255
    blurred = corrupt(image, "gaussian_blur", 0)[4, 0, 0] / 255.0
    side = np.exp(-(np.arange(-8, 9) ** 2) / 2.0)
    side[np.abs(np.arange(-8, 9)) > 4] = 0
    assert np.abs(blurred - np.outer(side, side) / side.sum() ** 2).max() < 1.5 / 255
    # Severity 4 of defocus is a disk of radius 1: five pixels with an almost sharp edge.
    plus = corrupt(image, "defocus_blur", 0)[3, 0, 0] / 255.0
    assert plus[8, 8] == pytest.approx(0.2, abs=1.5 / 255)
    assert plus[8, 9] == pytest.approx(0.2, abs=1.5 / 255)
    assert plus[9, 9] < 0.01
    # Severity 3 is a disk of one pixel, which consists of the edge only.
    rim = np.exp(-(np.arange(-1, 2) ** 2) / (2 * 0.6**2))
    soft = corrupt(image, "defocus_blur", 0)[2, 0, 0, 7:10, 7:10] / 255.0
    assert np.abs(soft - np.outer(rim, rim) / rim.sum() ** 2).max() < 1.5 / 255


class Recorded:
    """A random generator that records its numbers, so that a slow calculation can use them."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.drawn: list[Array] = []

    def __getattr__(self, name: str) -> Any:
        def draw(*arguments: Any, **keywords: Any) -> Array:
            self.drawn.append(getattr(self.rng, name)(*arguments, **keywords))
            return self.drawn[-1]

        return draw


def run(name: CorruptionName, images: Images, parameters: Any) -> tuple[Array, list[Array]]:
    recorded: Any = Recorded()
    return CORRUPTIONS[name](images, parameters, recorded), recorded.drawn


@pytest.mark.parametrize("parameters", [(0.4, 1, 2), (0.7, 2, 2)])
def test_glass_blur_copies_pixel_by_pixel(
    parameters: tuple[float, int, int], pixels: Images
) -> None:
    sigma, reach, _ = parameters
    found, drawn = run("glass_blur", pixels, parameters)
    for number in (0, 7):
        image = to_uint8(ndimage.gaussian_filter(pixels[number], (0, sigma, sigma), mode="nearest"))
        for draw in drawn:
            right, down = draw[:, :, number].reshape(2, 32, 32)
            assert (right.min(), right.max()) == (-reach, reach - 1)
            for row in range(32 - reach, reach, -1):
                for column in range(32 - reach, reach, -1):
                    image[:, row, column] = image[
                        :, row + down[row, column], column + right[row, column]
                    ]
        expected = ndimage.gaussian_filter(image / 255, (0, sigma, sigma), mode="nearest")
        assert np.abs(found[number] - expected).max() < 1e-5


def test_motion_blur_is_a_half_gaussian_along_a_line(pixels: Images) -> None:
    radius, sigma = 6, 2.0
    found, [angles] = run("motion_blur", pixels, (radius, sigma))
    assert len(angles) == len(pixels)
    assert np.abs(angles).max() <= 45
    weights = np.exp(-(np.arange(13) ** 2) / (2 * sigma**2))
    for image, angle, result in zip(pixels, np.deg2rad(angles), found, strict=True):
        expected = np.zeros_like(image)
        for step, weight in enumerate(weights / weights.sum()):
            rows = np.clip(np.arange(32) + round(step * np.sin(angle)), 0, 31)
            columns = np.clip(np.arange(32) + round(step * np.cos(angle)), 0, 31)
            expected += weight * image[:, rows][:, :, columns]
        assert np.abs(result - expected).max() < 0.51 / 255


def enlarged(image: Array, factor: float) -> Array:
    """Zoom into the centre of an H×W image with scipy."""
    side = len(image)
    crop = int(np.ceil(side / factor))
    first = (side - crop) // 2
    large = ndimage.zoom(image[first : first + crop, first : first + crop], factor, order=1)
    trim = (len(large) - side) // 2
    return large[trim : trim + side, trim : trim + side]


@pytest.mark.parametrize("side", [32, 64])
def test_zoom_blur_is_the_mean_of_enlargements(side: int) -> None:
    images = photos(side)[:2]
    found = corrupt(images, "zoom_blur", 0)[4] / 255
    factors = np.arange(1, 1.26, 0.01)
    for image, result in zip(
        images.reshape(-1, side, side) / 255, found.reshape(-1, side, side), strict=True
    ):
        expected = (image + sum(enlarged(image, factor) for factor in factors)) / (len(factors) + 1)
        assert np.abs(result - expected).max() < 1.01 / 255


def test_fog_is_a_cloud_of_full_range_that_brightens_nothing(pixels: Images) -> None:
    flat = np.full((CHUNK, 1, 32, 32), 0.8, dtype=np.float32)
    foggy, _ = run("fog", flat, (1.5, 1.75))
    cloud = (foggy * (0.8 + 1.5) / 0.8 - 0.8) / 1.5
    assert np.abs(cloud.min(axis=(1, 2, 3))).max() < 1e-5
    assert np.abs(cloud.max(axis=(1, 2, 3)) - 1).max() < 1e-5
    # Fine noise is weaker than coarse noise, so neighbours are similar. A larger decay increases
    # this.
    steps = [
        np.abs(np.diff(run("fog", flat, (1.5, decay))[0], axis=3)).mean()
        for decay in (1.4, 1.75, 3)
    ]
    assert steps[0] > 1.3 * steps[1] > 1.3 * steps[2]
    assert (
        run("fog", pixels, (1.5, 1.75))[0].max(axis=(1, 2, 3)) <= pixels.max(axis=(1, 2, 3)) + 1e-6
    ).all()


def test_frost_has_the_colours_of_the_published_photographs() -> None:
    """The expected mean and deviations are those of a thousand pieces of the photographs.

    The pieces were reduced like those of CIFAR-10-C.
    """
    ice, _ = run("frost", np.zeros((1000, 3, 32, 32), dtype=np.float32), (1, 1))
    grey = ice.mean(axis=1)
    assert ice.mean(axis=(0, 2, 3)) == pytest.approx((0.568, 0.648, 0.694), abs=0.02)
    assert ice.std() == pytest.approx(0.191, abs=0.02)
    assert grey.mean(axis=(1, 2)).std() == pytest.approx(0.150, abs=0.02)
    assert grey.std(axis=(1, 2)).mean() == pytest.approx(0.088, abs=0.015)
    assert np.abs(np.diff(grey, axis=2)).mean() == pytest.approx(0.075, abs=0.015)


def test_frost_is_added_with_its_weights(pixels: Images) -> None:
    (mixed, _), (ice, _) = run("frost", pixels, (0.75, 0.45)), run("frost", pixels, (0, 1))
    assert np.abs(mixed - (0.75 * pixels + 0.45 * ice)).max() < 1e-5
    assert len(np.unique(ice.round(4), axis=0)) == len(pixels)


def test_snow_falls_on_a_paler_picture(pixels: Images) -> None:
    mean, std, zoom, threshold, radius, sigma, weight = severities(32)["snow"][3]
    found, (noise, angles) = run(
        "snow", pixels, (mean, std, zoom, threshold, radius, sigma, weight)
    )
    assert (angles >= -135).all()
    assert (angles <= -45).all()
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    for image, layer, angle, result in zip(
        pixels, noise[:, 0], np.deg2rad(angles), found, strict=True
    ):
        flakes = enlarged(layer, zoom)
        flakes = np.floor(np.clip(np.where(flakes < threshold, 0, flakes), 0, 1) * 255)
        fallen = np.zeros((32, 32))
        for step, share in enumerate(weights / weights.sum()):
            rows = np.clip(np.arange(32) + round(step * np.sin(angle)), 0, 31)
            columns = np.clip(np.arange(32) + round(step * np.cos(angle)), 0, 31)
            fallen += share * flakes[rows][:, columns]
        fallen = np.round(fallen) / 255
        grey = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
        pale = weight * image + (1 - weight) * np.maximum(image, 1.5 * grey + 0.5)
        assert np.abs(result - (pale + fallen + fallen[::-1, ::-1])).max() < 2.1 / 255


def test_elastic_transform_is_an_affine_map_and_then_smooth_noise(pixels: Images) -> None:
    alpha, sigma, shift = parameters = (0.08, 0.06, 0.06)
    found, (moves, by_x, by_y) = run("elastic_transform", pixels, parameters)
    assert np.abs(moves).max() <= 32 * shift
    # Corners are (x, y).
    corners = np.array([[26, 26], [26, 6], [6, 6]])
    rows, columns = np.mgrid[:32, :32]
    for number, image in enumerate(pixels):
        # This is the origin of the map from the corners to the moved corners. Scipy expects rows
        # first.
        solution = np.linalg.solve(np.column_stack([corners + moves[number], np.ones(3)]), corners)[
            :, ::-1
        ]
        matrix, offset = solution[1::-1].T, solution[2]
        dx, dy = (
            32
            * alpha
            * ndimage.gaussian_filter(noise[number], 32 * sigma, mode="reflect", truncate=3)
            for noise in (by_x, by_y)
        )
        for channel, result in zip(image, found[number], strict=True):
            bent = ndimage.affine_transform(channel, matrix, offset, order=1, mode="mirror")
            expected = ndimage.map_coordinates(
                bent, [rows + dy, columns + dx], order=1, mode="reflect"
            )
            assert np.abs(result - expected).max() < 0.5 / 255


def test_mud_is_brown_and_water_pale_blue_where_the_noise_is_high(pixels: Images) -> None:
    mud, [noise] = run("spatter", pixels, (0.65, 0.1, 0.5, 0.68, 0.6, 1))
    for image, layer, result in zip(pixels, noise, mud, strict=True):
        splash = ndimage.gaussian_filter(layer, 0.5, mode="nearest") > 0.68
        cover = ndimage.gaussian_filter(splash.astype(float), 0.6, mode="nearest")
        cover = np.where(cover < 0.8, 0, cover)
        assert 0 < (cover > 0).mean() < 0.5
        brown = np.array([63, 42, 20]).reshape(3, 1, 1) / 255
        assert np.abs(result - (image * (1 - cover) + brown * cover)).max() < 1e-5

    water, [noise] = run("spatter", pixels, (0.65, 0.1, 0.8, 0.7, 0.5, 0))
    added = water - pixels
    # The added colour has the proportions 175 : 238 : 238. The most opaque pixel of each image has
    # half of it, and pixels outside of the drops have none.
    assert np.abs(added[:, 0] * 238 / 175 - added[:, 1]).max() < 1e-5
    assert added[:, 1].max(axis=(1, 2)) == pytest.approx(0.5 * 238 / 255, abs=1e-5)
    dry = np.stack([ndimage.gaussian_filter(layer, 0.8, mode="nearest") < 0.7 for layer in noise])
    assert np.abs(added[:, 1][dry]).max() < 1e-6


# These are the ImageNet parameters of the package, with their severities. The package differs from
# the published code in three places: it truncates motion to 8 bits, whereas ImageMagick rounds; it
# does not truncate snowflakes to 8 bits before they fall; and it has no affine map.
@pytest.mark.parametrize(
    ("name", "severity", "parameters", "mean", "most"),
    [
        ("gaussian_blur", 2, 2, 0.01, 1),
        ("defocus_blur", 1, (3, 0.1), 0.1, 1),
        ("motion_blur", 2, (15, 5), 0.6, 1),
        ("snow", 2, (0.2, 0.3, 2, 0.5, 12, 4, 0.7), 0.2, 2),
        ("fog", 4, (2.5, 1.5), 0.01, 1),
        ("brightness", 3, 0.3, 0.1, 1),
        ("contrast", 2, 0.3, 0.01, 1),
        ("elastic_transform", 5, (250 * 0.12 / 64, 0.01, 0), 0.01, 1),
        ("pixelate", 4, 0.3, 0, 0),
        ("jpeg_compression", 1, 25, 0, 0),
        # If two edges are almost equally near, each may choose another one, which changes a few
        # drops.
        ("spatter", 1, (0.65, 0.3, 4, 0.69, 0.6, 0), 0.05, 255),
        ("spatter", 3, (0.65, 0.3, 2, 0.68, 0.5, 0), 0.8, 255),
        ("spatter", 4, (0.65, 0.3, 1, 0.65, 1.5, 1), 0.01, 1),
        ("saturate", 4, (5, 0.1), 0.1, 1),
    ],
)
def test_imagecorruptions_agrees_when_it_draws_the_same_numbers(
    name: CorruptionName,
    severity: int,
    parameters: Any,
    mean: float,
    most: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    package = pytest.importorskip("imagecorruptions", reason="pip install imagecorruptions-imaug")
    differences = []
    for image in photos(64)[::3]:
        found, drawn = run(name, image[None].astype(np.float32) / np.float32(255), parameters)
        numbers = iter(drawn[1:] if name == "elastic_transform" else drawn)

        def replay(
            *arguments: Any, size: Any = (), numbers: Any = numbers, **_parameters: Any
        ) -> Array:
            return np.reshape(next(numbers), arguments[2] if len(arguments) == 3 else size)

        with monkeypatch.context() as patch:
            patch.setattr(np.random, "uniform", replay)
            patch.setattr(np.random, "normal", replay)
            expected = package.corrupt(image.transpose(1, 2, 0), severity, name).transpose(2, 0, 1)
        differences.append(np.abs(to_uint8(found[0]).astype(int) - expected))
    assert np.mean(differences) <= mean
    assert np.max(differences) <= most
