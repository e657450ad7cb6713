"""Transfer of a robust network to another data set: adversarial fine-tuning, and TWINS."""

from collections.abc import Callable
from dataclasses import asdict, replace

import torch
from torch import nn

from rift.artifacts.resume import State, Work
from rift.config import MethodName, Train, Transfer, TransferSettings
from rift.config.transfer import BASELINES_OF_METHODS
from rift.data.images import Images
from rift.errors import RiftError
from rift.models import build
from rift.models.checkpoint import ModelSpec, load_state
from rift.models.heads import classifier_of, renew_classifier
from rift.models.modes import trainable
from rift.models.requirements import PROBED
from rift.models.scale_invariance import scale_invariant_weights
from rift.models.two_wings import check_wings, join_wings
from rift.progress import Progress, no_progress
from rift.seeds import generator
from rift.training.history import Trained
from rift.training.measuring import measure_transfer
from rift.training.methods import METHODS
from rift.training.parallel import ALONE, ProcessGroup
from rift.training.trainer import Job, Trainer

PROBE, MAIN = "linear probe", "transfer"
"""Names of the two phases, in their order: streams of random numbers, and keys of a state."""


def network_for_target(
    source: nn.Module,
    spec: ModelSpec,
    *,
    classes: int,
    channels: int,
    size: int,
    enlarge: int | None = None,
    seed: int,
) -> tuple[nn.Module, ModelSpec, str]:
    """Return a network with the weights of a source and a new last layer.

    It keeps the input normalisation of the source. The last layer is new even if the number of
    classes stays, because the classes are others.

    Args:
        source: network of the source, changed in place.
        spec: its specification.
        classes: number of classes of the target.
        channels: number of image channels of the target.
        size: image size of the target in pixels.
        enlarge: side in pixels to which the network enlarges the images; None to do as the source.
        seed: seed of the last layer.

    Returns:
        Network, its specification, and the name of its last layer.

    Raises:
        RiftError: the network cannot process images of the target, or no layer returns its logits.
    """
    if channels != len(spec.mean):
        raise RiftError(
            f"the base is for images of {len(spec.mean)} channels, but the target has {channels};"
            " choose a base and a target with the same number"
        )
    if enlarge is not None and enlarge <= size:
        raise RiftError(
            f"transfer.enlarge: is {enlarge}, but the images have {size} pixels already; choose"
            " more, or remove the setting"
        )
    probe = torch.rand((PROBED, channels, spec.size, spec.size), generator=generator(0, "probe"))
    head = classifier_of(source, probe)
    renew_classifier(source, head, classes, seed=seed)
    target = replace(spec, classes=classes, size=size, enlarge=enlarge or spec.enlarge)
    model = build(**asdict(target), seed=seed)
    otherwise = "the network with a new last layer is another one"
    if (target.enlarge or size) != (spec.enlarge or spec.size):
        otherwise = (
            f"the base is for images of {spec.enlarge or spec.size} pixels, and does not take"
            f" {target.enlarge or size}"
        )
    load_state(model, source.state_dict(), otherwise)
    return model, target, head


def transfer(
    model: nn.Module,
    data: Images,
    validation: Images,
    *,
    head: str,
    method: MethodName,
    settings: TransferSettings,
    seed: int,
    group: ProcessGroup = ALONE,
    work: Work | None = None,
    after_epoch: Callable[[Trained], None] = lambda trained: None,
    progress: Progress = no_progress,
) -> Trained:
    """Train a network of ``network_for_target`` adversarially on a target; return the best epoch.

    With ``transfer.init_head: linear-probe``, the last layer is first trained alone, with PGD-AT
    and all other weights and running statistics fixed. Its best epoch is the start of the rest. The
    result is a plain network: with TWINS, it is the adaptive wing. The rows of the history are
    ``rift.training.history.TransferEpoch``.

    Args:
        model: network, trained in place; it ends as a plain network with the weights of the last
            epoch.
        data: training images of the target, on the device of the model.
        validation: selection split of the target, likewise.
        head: name of the last layer.
        method: key of ``rift.training.methods.METHODS``.
        settings: optimiser, schedule, head, losses, augmentation, attack and threat model.
        seed: seed of data order, augmentation and attacks.
        group: processes that share every batch.
        work: source of the state of an interrupted run, and target of this run's states. A
            continued run gives the same result as an uninterrupted one.
        after_epoch: called with the result so far after every epoch, without those of the probe.
        progress: called after every step.

    Raises:
        RiftError: the network has no batch norm and the method needs it, the target has fewer
            training images than asked for, or the loss is no longer finite.
        Stopped: a signal asked the process to stop; the state has been saved.
    """
    work = work or Work()
    chosen = settings.transfer
    data = data.first(chosen.images, "transfer.images")
    few = data.take(slice(0, PROBED)).floats()
    if method in BASELINES_OF_METHODS:
        check_wings(model, few)
    own = list(model.get_submodule(head).parameters())
    training = settings.as_training()
    if chosen.init_head == "linear-probe" and not (work.state and MAIN in work.state):
        probe = training.model_copy(update={"train": _as_probe(chosen, training.train)})
        job = Job(METHODS["at"], probe, PROBE, own, moves_statistics=False)
        with trainable(model, own):
            best = Trainer(model, data, validation, job, seed=seed, group=group).run(
                _Phase(work, PROBE), _nothing, progress
            )
        model.load_state_dict(best.state)
    job = Job(
        METHODS[method],
        training,
        MAIN,
        head=own,
        head_rate=chosen.head_rate,
        measure=measure_transfer,
        watched=scale_invariant_weights(model, few),
    )
    try:
        trainer = Trainer(model, data, validation, job, seed=seed, group=group)
        return trainer.run(_Phase(work, MAIN), after_epoch, progress)
    finally:
        join_wings(model)


class _Phase(Work):
    """One of the phases of a run; its states carry its name."""

    def __init__(self, work: Work, name: str) -> None:
        super().__init__()
        self.work, self.name = work, name
        self.state = (work.state or {}).get(name)

    @property
    def is_due(self) -> bool:
        return self.work.is_due

    def save(self, state: State) -> None:
        self.work.save({self.name: state})


def _as_probe(chosen: Transfer, train: Train) -> Train:
    """Return the settings of the linear probe: a constant learning rate for a few epochs."""
    return train.model_copy(
        update={
            "epochs": chosen.probe_epochs,
            "learning_rate": chosen.probe_learning_rate,
            "schedule": "step",
            "milestones": (),
            # The network is compiled once, after the wings are split.
            "compile": "never",
        }
    )


def _nothing(_trained: Trained) -> None:
    """Do nothing after an epoch of the probe: the history is that of the transfer."""
