"""Groups of sections, by the stages that depend on them."""

from collections.abc import Sequence

from rift.config.criticality import Criticality
from rift.config.data import Corrupt, Data
from rift.config.evaluation import Evaluate
from rift.config.finetuning import Continuation, Finetune, Mixed, ranked_by
from rift.config.interpolation import Interpolate, Spend
from rift.config.names import Scope
from rift.config.regimes import Awp, Mart, Score, Trades
from rift.config.threat import Attack
from rift.config.training import Augment, Inner, Train, TrainingLoop
from rift.config.transfer import Transfer, Twins
from rift.config.values import Section

# These settings do not change results, so that provenance and the flags of workflow jobs omit them.
RESULT_NEUTRAL = frozenset(
    {"root", "processes", "save_minutes", "tensorboard", "cache_mib", "shards"}
)


class RegimeSettings(Section):
    """Sections of training that can differ between regimes."""

    augment: Augment = Augment()
    train: Train = Train()
    inner: Inner = Inner()
    trades: Trades = Trades()
    mart: Mart = Mart()
    score: Score = Score()
    awp: Awp = Awp()


class MethodSettings(Section):
    """Sections of a transfer that can differ between methods."""

    augment: Augment = Augment()
    transfer: Transfer = Transfer()
    twins: Twins = Twins()
    trades: Trades = Trades()
    inner: Inner = Inner()


class TrainingSettings(RegimeSettings):
    """Sections that training depends on."""

    attack: Attack = Attack()
    twins: Twins = Twins()


class TransferSettings(MethodSettings):
    """Sections that a transfer depends on."""

    attack: Attack = Attack()

    def as_training(self) -> TrainingSettings:
        """Return the same settings in the form that the trainer takes."""
        loop = {name: getattr(self.transfer, name) for name in TrainingLoop.model_fields}
        others = {name: getattr(self, name) for name in type(self).model_fields}
        del others["transfer"]
        return TrainingSettings(train=Train(**loop), **others)


class RunSettings(TrainingSettings):
    """Sections that the stages of a run depend on."""

    transfer: Transfer = Transfer()
    criticality: Criticality = Criticality()
    finetune: Finetune = Finetune()
    continuation: Continuation = Continuation()
    mixed: Mixed = Mixed()
    interpolate: Interpolate = Interpolate()
    spend: Spend = Spend()
    evaluate: Evaluate = Evaluate()

    def of_transfer(self) -> TransferSettings:
        """Return the sections that a transfer depends on."""
        return TransferSettings(
            **{name: getattr(self, name) for name in TransferSettings.model_fields}
        )


class Settings(RunSettings):
    """Sections that all stages depend on, for one data set, architecture and regime."""

    data: Data = Data()
    corrupt: Corrupt = Corrupt()

    def for_scopes(self, scopes: Sequence[Scope]) -> "Settings":
        """Return the settings with a race that settles the modules which some scopes choose.

        Args:
            scopes: names of scopes.
        """
        if self.criticality.method != "race":
            return self
        least, most = ranked_by(scopes)
        criticality = self.criticality.racing_for(least, most, self.finetune)
        return self.model_copy(update={"criticality": criticality})

    def section(self, path: str) -> Section:
        """Return the section at a dotted path such as ``evaluate.pgd``."""
        found: Section = self
        for key in path.split("."):
            found = getattr(found, key)
        return found
