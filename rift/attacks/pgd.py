"""Projected gradient descent (Madry et al. 2018)."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rift.attacks.ascent import ascend
from rift.models.modes import inference


def pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    step: float,
    steps: int,
    restarts: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Find images in the Linf ball that raise the cross-entropy.

    The model is attacked in eval mode and without gradients for its weights; both are as before afterwards. Each restart
    begins at a point drawn uniformly from the ball, the same for every model. It attacks only the images that withstood
    those before it, so that an image is misclassified in the end exactly if any of its restarts succeeded.

    Args:
        model: gives logits, N×classes, for images in [0, 1].
        images: N×C×H×W, in [0, 1].
        labels: N.
        eps: radius of the ball, in pixel values.
        step: length of a step, in pixel values.
        steps: steps of a restart.
        restarts: how many times to begin anew.
        generator: of the random starts, on the device of the images.

    Returns:
        Adversarial images, of the shape of ``images``, within ``eps`` of them and in [0, 1].
    """
    lower, upper = (images - eps).clamp(min=0), (images + eps).clamp(max=1)
    adversarial = images.clone()
    withstood = torch.arange(len(images), device=images.device)
    with inference(model):
        for _ in range(restarts):
            # Drawn for all images, so that an image's start does not depend on which others withstood.
            noise = torch.rand(
                images.shape, generator=generator, device=images.device, dtype=images.dtype
            )
            low, high, target = lower[withstood], upper[withstood], labels[withstood]
            point = (images[withstood] + (2 * noise[withstood] - 1) * eps).clamp(low, high)
            loss = partial(F.cross_entropy, target=target, reduction="sum")
            if len(withstood) > 0:
                point = ascend(model, point, low, high, loss, step=step, steps=steps)
            adversarial[withstood] = point
            if restarts > 1 and len(withstood) > 0:
                with torch.no_grad():
                    withstood = withstood[model(point).argmax(1) == target]
    return adversarial
