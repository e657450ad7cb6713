"""Settings of module robust criticality."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import (
    Field,
    model_validator,
)

from rift.config.finetuning import Finetune
from rift.config.names import SearchName
from rift.config.values import (
    Count,
    ImageCount,
    LeastShare,
    Names,
    Part,
    Positive,
    Precision,
    Section,
)

_OF_PGA = ("passes", "steps", "restarts", "trial_images")
SETTINGS_OF_SEARCHES: dict[SearchName, tuple[str, ...]] = {
    "pga": _OF_PGA,
    "published": ("epochs", "learning_rate", "stop_at_boundary"),
    "race": (*_OF_PGA, "least", "most", "least_share", "part", "first_images"),
}


class Criticality(Section):
    """Search for the largest robust loss in the weight ball (Zhu et al. 2023, Definition 3.1)."""

    method: SearchName = Field(
        "pga",
        description="Search method. pga: projected gradient ascent; published: search of the"
        " official code; gradient: first-order estimate; race: pga on ever more images for ever"
        " fewer modules, until the least critical ones are settled.",
    )
    epsilon: Positive = Field(
        0.1, description="Radius of the weight ball, as a share of the norm of the weight: > 0."
    )
    norm: Literal["l2", "linf"] = Field(
        "l2", description="Norm of the weight ball: l2 or linf (largest absolute value)."
    )
    passes: Annotated[int, Field(ge=2)] = Field(
        3,
        description="Number of passes of pga over the images: ≥ 2. The last pass takes one step"
        " along the gradient of all images.",
    )
    steps: Count = Field(
        16, description="Number of steps of pga in every pass except the last: ≥ 1."
    )
    restarts: Annotated[int, Field(ge=0)] = Field(
        10,
        description="Number of starts that pga tries in addition to the centre of the ball: ≥ 0."
        " The first starts lie towards one class each, and all others are random.",
    )
    trial_images: Count = Field(
        32,
        description="Number of images for the trial of the starts: ≥ 1. pga continues from the best"
        " start.",
    )
    least: Names[Count] | None = Field(
        None,
        description="Numbers of least critical modules that the race settles: 1,3 settles the least"
        " critical one and the three least critical ones. An experiment adds the numbers that its"
        " scopes need. Default: 1.",
    )
    most: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="Number of most critical modules that the race settles: ≥ 0. An experiment"
        " settles at least one if a scope needs it. Default: 0.",
    )
    least_share: LeastShare | None = Field(
        None,
        description="Smallest share of the measured weights of a least critical module of the race:"
        " in [0, 1). Default: finetune.least_share in an experiment, else 0.",
    )
    part: Part | None = Field(
        None,
        description="Part of the network with the least critical modules of the race, from the"
        " first module (0) to the last (1). Default: finetune.part in an experiment, else [0, 1].",
    )
    first_images: Count | None = Field(
        None,
        description="Smallest number of images of the first round of the race: ≥ 1. Every round has"
        " twice the images of the round before. Default: 50.",
    )
    epochs: Count = Field(
        10,
        description="Number of epochs of the published search: ≥ 1. Each epoch ends with a"
        " projection of the weight into the ball.",
    )
    learning_rate: Positive = Field(1.0, description="Learning rate of the published search: > 0.")
    stop_at_boundary: bool = Field(
        False,
        description="Whether the published search stops when it first leaves the ball, as in"
        " Algorithm 1 of the paper.",
    )
    batch_size: Count = Field(
        512,
        description="Number of images per step of the published search: ≥ 1. For the other methods,"
        " the largest number of images that are processed at once.",
    )
    precision: Precision = Field(
        "float32",
        description="Precision of the search; auto is bfloat16 on a GPU or a CPU that has"
        " instructions for it, else float32.",
    )
    split: Literal["train", "validation", "test"] = Field(
        "train", description="Split that contains the images."
    )
    images: ImageCount = Field(
        "all", description="Number of images of this split, from the first: ≥ 1, or all."
    )
    cache_mib: Annotated[int, Field(ge=0)] = Field(
        2048,
        description="Memory for cached activations in front of the measured module, in MiB: ≥ 0."
        " Activations that do not fit are computed again.",
    )
    shards: Count = Field(1, description="Number of jobs that share the modules: ≥ 1.")

    def racing_for(self, least: Sequence[int], most: int, finetune: Finetune) -> "Criticality":
        """Return the settings of a race that also settles the modules that scopes choose.

        Settings of another method are returned as they are.

        Args:
            least: numbers of least critical modules that scopes choose.
            most: number of most critical modules that scopes choose.
            finetune: restrictions on the least critical modules, if these settings have none.
        """
        if self.method != "race":
            return self
        numbers = {*(self.least or ()), *least}
        asked = {
            "least": tuple(sorted(numbers)) or None,
            "most": max(self.most or 0, most),
            "least_share": finetune.least_share if self.least_share is None else self.least_share,
            "part": finetune.part if self.part is None else self.part,
        }
        return self.model_copy(update=asked)

    @model_validator(mode="after")
    def _every_setting_is_of_the_method(self) -> "Criticality":
        own = SETTINGS_OF_SEARCHES.get(self.method, ())
        for method, names in SETTINGS_OF_SEARCHES.items():
            changed = [
                name
                for name in names
                if name not in own and getattr(self, name) != type(self).model_fields[name].default
            ]
            if changed:
                raise ValueError(
                    f"{changed[0]}: is a setting of the method {method}, but the method is"
                    f" {self.method}; remove it, or set method to {method}"
                )
        if self.method == "published" and self.norm != "l2":
            raise ValueError(
                "norm: the method published supports only l2; set norm to l2, or method to pga or"
                " gradient"
            )
        if self.method == "race" and self.shards > 1:
            raise ValueError(
                "shards: the race compares all modules in one job; remove shards, or set method to"
                " pga"
            )
        return self
