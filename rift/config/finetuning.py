"""Settings of fine-tuning."""

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
)

from rift.config.values import Count, ImageCount, NotNegative, Number, Positive, Precision, Section


def _part(limits: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= limits[0] <= limits[1] <= 1:
        raise ValueError(
            "must be two numbers between 0 (the first module) and 1 (the last) that do not fall"
        )
    return limits


class Finetune(Section):
    """Clean fine-tuning of one scope."""

    epochs: Count = Field(10, description="Passes; the learning rate is divided by 10 halfway.")
    batch_size: Count = Field(128, description="Images a step.")
    learning_rate: Positive = Field(1e-3, description="First learning rate of SGD.")
    momentum: Annotated[Number, Field(ge=0, lt=1)] = Field(0.9, description="Momentum of SGD.")
    weight_decay: NotNegative = Field(5e-4, description="L2 penalty of SGD.")
    batch_norm: Literal["train", "frozen"] = Field(
        "train",
        description="train: running statistics of the whole network move, as published; frozen: they stay.",
    )
    precision: Precision = Field(
        "float32",
        description="Arithmetic of fine-tuning; auto is bfloat16 on a GPU that has it, else float32.",
    )
    images: ImageCount = Field(
        "all", description="How many training images are used, counted from the first."
    )
    least_share: Annotated[Number, Field(ge=0, lt=1)] = Field(
        0,
        description="Share of the network's measured weights that a module must have to be chosen as least critical.",
    )
    part: Annotated[tuple[Number, Number], AfterValidator(_part)] = Field(
        (0, 1),
        description="Part of the network that the least critical modules are chosen from; its middle: [0.25, 0.75].",
    )
