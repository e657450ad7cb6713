"""Settings of training."""

from typing import Annotated, Literal

from pydantic import (
    Field,
    model_validator,
)

from rift.config.names import CompileName, InnerName, ScheduleName
from rift.config.normalization import DESCRIPTION, Normalization
from rift.config.values import (
    AddedLater,
    Count,
    ImageCount,
    NotNegative,
    Number,
    Positive,
    Precision,
    Section,
)


class Augment(Section):
    """Augmentation of training and fine-tuning images."""

    crop: int = Field(
        4,
        ge=0,
        description="Largest shift of the random crop, in pixels: ≥ 0. Reflection fills the"
        " border.",
    )
    flip: bool = Field(True, description="Mirror images horizontally with probability 0.5.")
    smallest_area: Annotated[Annotated[Number, Field(gt=0, le=1)] | None, AddedLater()] = Field(
        None,
        description="Smallest share of the area of an image that a random resized crop keeps: in"
        " (0, 1]. Such a crop replaces the shift; ImageNet's usual value is 0.08. null: the shift.",
    )


class Optimiser(Section):
    """Optimiser and schedule; the defaults follow Pang et al. 2021."""

    epochs: Count = Field(110, description="Number of epochs: ≥ 1.")
    batch_size: Count = Field(
        128, description="Number of images per step, over all processes: ≥ 1."
    )
    learning_rate: Positive = Field(
        0.1, description="Initial learning rate of SGD, or the maximum for one-cycle: > 0."
    )
    schedule: ScheduleName = Field(
        "step",
        description="Schedule of the learning rate. step: divide by 10 at the milestones; cosine:"
        " decay to 0; one-cycle: rise from 0 to the maximum and return to 0.",
    )
    milestones: tuple[Count, ...] = Field(
        (100, 105),
        description="Epochs after which the schedule step divides the learning rate by 10: ≥ 1.",
    )
    momentum: Annotated[Number, Field(ge=0, lt=1)] = Field(
        0.9, description="Momentum of SGD: in [0, 1)."
    )
    weight_decay: NotNegative = Field(5e-4, description="Weight decay (L2 penalty) of SGD: ≥ 0.")
    label_smoothing: Annotated[Number, Field(ge=0, lt=1)] = Field(
        0.0, description="Share of each label that is spread evenly over all classes: in [0, 1)."
    )
    averaging: Annotated[Number, Field(ge=0, lt=1)] = Field(
        0.0,
        description="Decay per step of an exponential moving average of the weights: in [0, 1); 0"
        " turns it off. The averaged weights are evaluated after every epoch, too.",
    )


class Initial(Optimiser):
    """Initial weights."""

    init: str | None = Field(
        None,
        description="Initial weights: a file (.safetensors, .pth, .pt) or robustbench:NAME. They"
        " are random by default.",
    )
    init_normalization: Normalization | None = Field(
        None,
        description="Input normalisation of the network in init, if its file does not contain one."
        f" {DESCRIPTION}.",
    )


class TrainingLoop(Optimiser):
    """Optimiser, and how an epoch is computed, measured and saved."""

    statistics: Literal["loss", "attacked", "clean", "published"] = Field(
        "loss",
        description="Images that move the running statistics of batch norm. loss: all images of the"
        " loss; attacked or clean: only these; published: the passes of the regime's authors. All"
        " but loss need more passes.",
    )
    precision: Precision = Field(
        "auto",
        description="Precision of training; auto is bfloat16 on a GPU that supports it, else"
        " float32.",
    )
    keep: Literal["most-robust", "most-accurate-of-equals"] = Field(
        "most-robust",
        description="Checkpoint to keep, by its accuracy on the selection split. most-robust: the"
        " highest PGD accuracy; most-accurate-of-equals: the highest standard accuracy among those"
        " whose PGD accuracy a paired test cannot distinguish from the best.",
    )
    keep_level: Annotated[Number, Field(gt=0, lt=1)] = Field(
        0.05,
        description="Significance level of the test of most-accurate-of-equals (exact two-sided"
        " McNemar test): in (0, 1).",
    )
    measure_every: Count = Field(
        1,
        description="Number of epochs from one evaluation on the selection split to the next: ≥ 1."
        " The last epoch is evaluated, too. Only evaluated epochs can be kept, and have a row in"
        " the history.",
    )
    measure_images: ImageCount = Field(
        "all",
        description="Number of images of the selection split for this evaluation, from the first:"
        " ≥ 1, or all.",
    )
    measure_precision: Precision = Field(
        "float32",
        description="Precision of this evaluation; auto is bfloat16 on a GPU that supports it, else"
        " float32.",
    )
    compile: CompileName = Field(
        "auto",
        description="Whether to compile the network with torch.compile; auto: on a GPU; graphs:"
        " with CUDA graphs, too.",
    )
    accumulate: Count = Field(
        1,
        description="Number of parts per batch, for gradient accumulation: ≥ 1. More parts need"
        " less memory, and batch norm normalises each part separately.",
    )
    processes: Count = Field(
        1,
        description="Number of processes that share every batch, one per GPU: ≥ 1. Batch norm uses"
        " the statistics of the whole batch on GPUs only.",
    )
    save_minutes: Positive = Field(
        10.0,
        description="Minutes between saves of the state within an epoch: > 0. The state is saved"
        " after every epoch, too.",
    )
    tensorboard: bool = Field(
        False, description="Write TensorBoard logs to the folder tensorboard, next to the weights."
    )

    @model_validator(mode="after")
    def _parts_are_no_single_images(self) -> "TrainingLoop":
        parts = self.accumulate * self.processes
        if parts > 1 and self.batch_size < 2 * parts:
            raise ValueError(
                f"batch_size: batch norm needs at least 2 images per part, but {parts} parts"
                f" (accumulate × processes) share {self.batch_size} images; set batch_size to"
                f" {2 * parts} or more"
            )
        return self


class Train(TrainingLoop, Initial):
    """Training of the base; the defaults follow Pang et al. 2021."""


class Inner(Section):
    """Attack on training images. Omitted values follow the section ``attack``."""

    method: InnerName = Field(
        "pgd",
        description="Method of the attack: pgd, or a single-step attack: fgsm-rs (Wong et al. 2020)"
        " or n-fgsm (de Jorge et al. 2022, with noise of up to 2·eps), both for linf alone.",
    )
    start: Literal["uniform", "normal"] = Field(
        "uniform",
        description="Random start of pgd. uniform: uniform in the ball; normal: the image plus"
        " 0.001·N(0, 1) (TRADES).",
    )
    eps: Positive | None = Field(
        None,
        description="Radius of the ball, in pixel values: > 0, and ≤ 1 for linf; default:"
        " attack.eps.",
    )
    step: Positive | None = Field(
        None,
        description="Length of a step, in pixel values: > 0, and ≤ 1 for linf. Default: attack.step"
        " for pgd, 1.25·eps for fgsm-rs, eps for n-fgsm.",
    )
    steps: Count | None = Field(
        None, description="Number of steps of pgd: ≥ 1; default: attack.steps."
    )
