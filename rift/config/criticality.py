"""Settings of module robust criticality."""

from typing import Annotated, Literal

from pydantic import (
    Field,
    model_validator,
)

from rift.config.names import SearchName
from rift.config.values import Count, ImageCount, Positive, Precision, Section

SETTINGS_OF_SEARCHES: dict[SearchName, tuple[str, ...]] = {
    "pga": ("passes", "steps", "restarts", "trial_images"),
    "published": ("epochs", "learning_rate", "stop_at_boundary"),
}


class Criticality(Section):
    """Module robust criticality (Zhu et al. 2023, Definition 3.1): how the largest robust loss in the ball is searched for."""

    method: SearchName = Field(
        "pga",
        description="pga (projected gradient ascent), published (the official code's search) or gradient (to first order).",
    )
    epsilon: Positive = Field(
        0.1, description="Radius of the weight ball, relative to the norm of the weight."
    )
    norm: Literal["l2", "linf"] = Field(
        "l2", description="Norm of the weight ball; linf: of its largest entry."
    )
    passes: Annotated[int, Field(ge=2)] = Field(
        3,
        description="Passes of pga over the images; the last is one step along the gradient of all.",
    )
    steps: Count = Field(16, description="Steps that pga takes in each of its other passes.")
    restarts: Annotated[int, Field(ge=0)] = Field(
        10,
        description="Starts of pga that are tried besides the ball's centre: towards one class each, then random ones.",
    )
    trial_images: Count = Field(
        32, description="Images that starts are tried on; the best one is searched from."
    )
    epochs: Count = Field(
        10, description="Passes of the published search; the weight is projected after each."
    )
    learning_rate: Positive = Field(1.0, description="Step length of the published search.")
    stop_at_boundary: bool = Field(
        False,
        description="End the published search when it first leaves the ball, as the paper's Algorithm 1 has it.",
    )
    batch_size: Count = Field(
        512,
        description="Images a step of the published search; images at once, at most, of the others.",
    )
    precision: Precision = Field(
        "float32",
        description="Arithmetic of the ascent; auto is bfloat16 on a GPU that has it, else float32.",
    )
    split: Literal["train", "validation", "test"] = Field(
        "train", description="Split that the images come from."
    )
    images: ImageCount = Field("all", description="How many of its images, counted from the first.")
    cache_mib: Annotated[int, Field(ge=0)] = Field(
        2048,
        description="Memory for activations before the module measured; batches that do not fit compute them anew.",
    )
    shards: Count = Field(1, description="Jobs that the modules are divided among.")

    @model_validator(mode="after")
    def _every_setting_is_of_the_method(self) -> "Criticality":
        for method, names in SETTINGS_OF_SEARCHES.items():
            changed = [
                name
                for name in names
                if getattr(self, name) != type(self).model_fields[name].default
            ]
            if changed and method != self.method:
                raise ValueError(
                    f"{changed[0]}: is a setting of the method {method}, but the method is {self.method}; leave it away or set"
                    f" method: {method}"
                )
        if self.method == "published" and self.norm != "l2":
            raise ValueError(
                f"norm: the method published knows l2 alone; for {self.norm} take pga or gradient"
            )
        return self
