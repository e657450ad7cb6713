"""Tables by name.

To add a table, write a file here, add a line to ``TABLES``, and add its name to
``rift.config.TableName``.
"""

from collections.abc import Callable

from rift.config import TableName
from rift.reporting.results import Results
from rift.reporting.tables.baselines import baselines
from rift.reporting.tables.by_regime import regimes
from rift.reporting.tables.controls import controls
from rift.reporting.tables.corruptions import corruptions
from rift.reporting.tables.cost import cost
from rift.reporting.tables.criticality import criticality
from rift.reporting.tables.main_results import main
from rift.reporting.tables.module_ablation import module_ablation
from rift.reporting.tables.module_choice import module_choice
from rift.reporting.tables.table import Table
from rift.reporting.tables.top_k import top_k
from rift.reporting.tables.transfer import transfer

TableMaker = Callable[[Results], Table]

TABLES: dict[TableName, TableMaker] = {
    "main": main,
    "regimes": regimes,
    "module-ablation": module_ablation,
    "module-choice": module_choice,
    "top-k": top_k,
    "baselines": baselines,
    "controls": controls,
    "transfer": transfer,
    "corruptions": corruptions,
    "criticality": criticality,
    "cost": cost,
}
