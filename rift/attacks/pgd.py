"""Projected gradient descent (Madry et al. 2018)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rift.attacks.ascent import Objective, ascend
from rift.attacks.balls import BALLS
from rift.config import NormName
from rift.models.modes import inference
from rift.models.requirements import as_class_labels, as_logits, require_classes


def pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    step: float,
    steps: int,
    norm: NormName = "linf",
    restarts: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return images in a ball that raise the cross-entropy.

    The model is in eval mode during the attack, without gradients for its weights. Both are
    restored. Each restart begins at a point drawn uniformly from the ball, the same for every
    model. It attacks only the images that survived the earlier restarts. An image is therefore
    misclassified in the result exactly if any of its restarts succeeded.

    Args:
        model: returns logits, N×classes, for images in [0, 1].
        images: N×C×H×W, in [0, 1].
        labels: N.
        eps: radius of the ball, in pixel values.
        step: length of a step in the norm, in pixel values.
        steps: number of steps per restart.
        norm: ``linf``: steps along the sign of the gradient; ``l2``: along the gradient divided by
            its length, per image.
        restarts: number of random starts.
        generator: source of the random starts, on the device of the images.

    Returns:
        Adversarial images, of the shape of ``images``, within ``eps`` of them in the norm, and in
        [0, 1].

    Raises:
        RiftError: the model returns no logits, or too few for the labels.
    """
    labels = as_class_labels(labels)
    highest = int(labels.max()) if len(labels) else 0

    def loss(target: Tensor) -> Objective:
        def of(logits: Tensor) -> Tensor:
            require_classes(logits, highest)
            return F.cross_entropy(logits, target, reduction="sum")

        return of

    ball = BALLS[norm]
    adversarial = images.clone()
    surviving = torch.arange(len(images), device=images.device)
    with inference(model):
        for _ in range(restarts):
            # Noise is drawn for all images: which of them survived must not change an image's
            # start.
            noise = ball.noise(images.shape, generator, images.device, images.dtype)
            left, target = images[surviving], labels[surviving]
            project = ball.around(left, eps)
            point = project(left + noise[surviving] * eps)
            if len(surviving) > 0:
                point = ascend(
                    model,
                    point,
                    loss(target),
                    ascent=ball.ascent,
                    project=project,
                    step=step,
                    steps=steps,
                )
            adversarial[surviving] = point
            if restarts > 1 and len(surviving) > 0:
                with torch.no_grad():
                    surviving = surviving[as_logits(model(point)).argmax(1) == target]
    return adversarial
