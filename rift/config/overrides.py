"""Settings for single regimes or methods, data sets or architectures in an experiment file."""

from collections.abc import Mapping

from pydantic import Field, TypeAdapter

from rift.config.names import Architecture, Dataset, MethodName, RegimeName
from rift.config.settings import MethodSettings, RegimeSettings, RunSettings, Settings
from rift.config.values import Section


class Overrides(Section):
    """Settings for single regimes or methods, data sets or architectures.

    Their priority increases in this order.
    """

    regimes: Mapping[RegimeName, RegimeSettings] = Field(
        {},
        description="Settings by regime. Omitted settings follow the recipe of the authors of the"
        " regime.",
    )

    methods: Mapping[MethodName, MethodSettings] = Field(
        {}, description="Settings of transfers by method."
    )
    datasets: Mapping[Dataset, Settings] = Field(
        {},
        description="Settings by data set; for a transfer, by its target. Those of digits also"
        " apply to digits-0-4.",
        json_schema_extra={"propertyNames": TypeAdapter(Dataset).json_schema()},
    )
    architectures: Mapping[Architecture, RunSettings] = Field(
        {},
        description="Settings by architecture. The sections data and corrupt cannot differ between"
        " them.",
        # pydantic omits the names of the keys, because their type is a union.
        json_schema_extra={"propertyNames": TypeAdapter(Architecture).json_schema()},
    )
