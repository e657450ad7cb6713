"""Methods of a transfer by name.

A method is a regime that starts from the base of another data set. To add one, write a file here,
add a line to ``METHODS``, and add its name to ``rift.config.names.MethodName``. A method with
settings of its own also has an entry in ``rift.config.transfer``.
"""

from rift.config import MethodName
from rift.models.two_wings import adaptive_state, split_wings
from rift.training.methods import twins
from rift.training.regimes import Regime, pgd, trades

METHODS: dict[MethodName, Regime] = {
    "at": Regime(pgd.loss, pgd.objective),
    # The authors of TWINS train with the loss of TRADES on the examples of PGD-AT.
    "trades": Regime(trades.loss, pgd.objective),
    "twins-at": Regime(twins.at, pgd.objective, prepare=split_wings, kept=adaptive_state),
    "twins-trades": Regime(twins.trades, pgd.objective, prepare=split_wings, kept=adaptive_state),
}
