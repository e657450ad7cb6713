"""Settings of training."""

from typing import Annotated, Literal

from pydantic import (
    Field,
    model_validator,
)

from rift.config.names import InnerName, ScheduleName
from rift.config.values import (
    Count,
    Epsilon,
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
        4, ge=0, description="Random crop: largest shift in pixels; what it uncovers is reflected."
    )
    flip: bool = Field(True, description="Flip half of the images left to right.")


class Train(Section):
    """Adversarial training (Pang et al. 2021)."""

    epochs: Count = Field(110, description="Passes over the training split.")
    batch_size: Count = Field(128, description="Images a step, of all processes together.")
    learning_rate: Positive = Field(
        0.1, description="Learning rate of SGD: the first, or the highest of one-cycle."
    )
    schedule: ScheduleName = Field(
        "step",
        description="step: divided by 10 at the milestones; cosine: down to 0; one-cycle: up from 0 and down again.",
    )
    milestones: tuple[Count, ...] = Field(
        (100, 105), description="Epochs after which step divides by 10."
    )
    momentum: Annotated[Number, Field(ge=0, lt=1)] = Field(0.9, description="Momentum of SGD.")
    weight_decay: NotNegative = Field(5e-4, description="L2 penalty of SGD.")
    label_smoothing: Annotated[Number, Field(ge=0, lt=1)] = Field(
        0.0, description="Share of every label that is spread over all classes."
    )
    averaging: Annotated[Number, Field(ge=0, lt=1)] = Field(
        0.0,
        description="Decay of a moving average of the weights, evaluated beside them, such as 0.999; 0 for none.",
    )
    init: str | None = Field(
        None,
        description="Weights to begin with: a file (.safetensors, .pth, .pt) or robustbench:NAME; random if not given.",
    )
    init_normalization: Literal["dataset", "none"] | None = Field(
        None,
        description="What images go through before the network of init, where the file does not hold it.",
    )
    precision: Precision = Field(
        "auto",
        description="Arithmetic of training; auto is bfloat16 on a GPU that has it, else float32.",
    )
    keep: Literal["most-robust", "most-accurate-of-equals"] = Field(
        "most-robust",
        description="Which checkpoint is kept, by the selection split: most-robust: the one of best PGD accuracy;"
        " most-accurate-of-equals: the most accurate of those that a paired test cannot tell from the most robust one.",
    )
    keep_level: Annotated[Number, Field(gt=0, lt=1)] = Field(
        0.05, description="Level of that test (McNemar, exact, two-sided)."
    )
    measure_images: ImageCount = Field(
        "all",
        description="Images of the selection split, counted from the first, that every epoch is measured on.",
    )
    measure_precision: Precision = Field(
        "float32",
        description="Precision of that measurement; auto is bfloat16 on a GPU that has it, else float32.",
    )
    compile: Literal["auto", "always", "never"] = Field(
        "auto", description="Whether torch.compile translates the network; auto: on a GPU."
    )
    accumulate: Count = Field(
        1,
        description="Parts that a batch is computed in: more take less memory. Batch norm sees a part at a time.",
    )
    processes: Count = Field(
        1,
        description="Processes that share every batch, one a GPU. Batch norm sees the whole batch on GPUs only.",
    )
    save_minutes: Positive = Field(
        10.0,
        description="Minutes after which the state is saved within an epoch, besides at the end of each.",
    )
    tensorboard: bool = Field(False, description="Log to a folder tensorboard beside the weights.")

    @model_validator(mode="after")
    def _parts_are_no_single_images(self) -> "Train":
        parts = self.accumulate * self.processes
        if parts > 1 and self.batch_size < 2 * parts:
            raise ValueError(
                f"batch_size: {self.batch_size} images in {parts} parts (accumulate × processes) are fewer than 2 each, which"
                " batch norm cannot do with"
            )
        return self


class Inner(Section):
    """The attack that training images go through; what is not given is that of ``attack``."""

    method: InnerName = Field(
        "pgd",
        description="pgd; or in one step: fgsm-rs (Wong et al. 2020), n-fgsm (de Jorge et al. 2022, noise of twice eps).",
    )
    start: Literal["uniform", "normal"] = Field(
        "uniform",
        description="Where pgd begins: uniform in the ball, or normal: 0.001·N(0, 1) beside the image (TRADES).",
    )
    eps: Epsilon | None = Field(None, description="Radius of the Linf ball.")
    step: Epsilon | None = Field(
        None,
        description="Length of a step; if not given, of fgsm-rs 1.25 times eps, of n-fgsm eps.",
    )
    steps: Count | None = Field(None, description="Number of steps of pgd.")
