"""Numbers of images and epochs that fit a time, from the measured speed of the network."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import nn

from rift import config
from rift.api.costs import Amounts, costs_of, measured_speed
from rift.api.given import Sections, for_criticality, network_of
from rift.config import SETTINGS_OF_SEARCHES
from rift.data.images import Images
from rift.errors import RiftError
from rift.models.requirements import PROBED, check_network

STARTS, ALPHAS = 3, 6
"""Starts of a search for MRC, and values of α, that a short time leaves at most."""

SPENT, FIGURES = 0.9, 5.0
"""Share of the time that is planned for, because estimates err; and seconds for intervals and
figures."""


def amounts_within(
    budget: str,
    base: nn.Module,
    images: Mapping[str, Images],
    sections: Sections,
    *,
    autoattack: bool,
) -> dict[str, Any]:
    """Choose the numbers of images and epochs that fit a time.

    All numbers are the same share of what the settings and the images allow, unless this is less
    than a smallest sensible number. If these smallest numbers do not fit, restarts and values of α
    become fewer, too.

    Args:
        budget: time for all steps, such as ``30m``.
        base: network; it is measured for a few seconds.
        images: images by split: ``train``, ``validation`` and possibly ``test``.
        sections: settings; their numbers of images and epochs are the largest ones.
        autoattack: whether AutoAttack is run, too.

    Returns:
        ``amounts``, the numbers by the names of ``Amounts``; ``fewer``, settings that are not the
        given ones, by section and key; ``text``, which says what was chosen and why.

    Raises:
        RiftError: the network cannot be used, or the smallest sensible run does not fit.
    """
    train, validation = images["train"], images["validation"]
    most = Amounts(
        criticality=len(for_criticality(train, sections.criticality)),
        finetune=len(train.first(sections.finetune.images, "finetune.images")),
        epochs=sections.finetune.epochs,
        selection=len(validation.first(sections.interpolate.images, "interpolate.images")),
        test=len(images["test"]) if "test" in images else 0,
    )
    with network_of(base) as (network, _):
        check_network(network, train.take(slice(0, PROBED)).floats(), train.labels)
        speed, starts = measured_speed(network, train)
    room, least = SPENT * config.seconds_of(budget) - FIGURES, most.scaled(0)
    fewer: dict[str, Any] = {}
    costs = whole = costs_of(speed, starts, sections, len(validation), autoattack=autoattack)
    if costs.of(least) > room:
        fewer = fewer_trials(sections)
        costs = costs_of(
            speed, starts, with_fewer(sections, fewer), len(validation), autoattack=autoattack
        )
    if costs.of(least) > room:
        raise RiftError(
            f"budget: {budget} is too short for this network on this machine ({speed}); the"
            f" smallest sensible run ({_described(least, fewer)}) takes about"
            f" {written(costs.of(least))}: allow {written((costs.of(least) + FIGURES) / SPENT)}, or"
            " lower attack.steps"
        )
    low, high = (1.0, 1.0) if costs.of(most) <= room else (0.0, 1.0)
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if costs.of(most.scaled(middle)) <= room else (low, middle)
    chosen = most.scaled(low)
    text = (
        f"budget {budget}: {_described(chosen, fewer)}. They take about"
        f" {written(costs.of(chosen))} on this machine ({speed})"
    )
    if chosen != most or fewer:
        text += f"; without a budget ({most}), it would be {written(whole.of(most))}"
    return {"amounts": asdict(chosen), "fewer": fewer, "text": text}


def fewer_trials(sections: Sections) -> dict[str, dict[str, Any]]:
    """Return the settings of a short time: one start of PGD, few starts for MRC, few values of α.

    Only those are returned that differ from the given ones, by section and key.
    """
    alphas = sections.interpolate.alphas
    every = max(1, -(-(len(alphas) - 1) // (ALPHAS - 1)))
    # The least and the largest value stay: no point lies outside of them.
    kept = (*alphas[:-1:every], alphas[-1])
    searched = "restarts" in SETTINGS_OF_SEARCHES.get(sections.criticality.method, ())
    trials = {"restarts": min(sections.criticality.restarts, STARTS)} if searched else {}
    wanted: dict[str, dict[str, Any]] = {
        "criticality": trials,
        "interpolate": {"restarts": 1, "alphas": list(kept)},
        "pgd": {"restarts": 1},
    }
    given = sections.model_dump(mode="json")
    changed = {
        name: {key: value for key, value in keys.items() if value != given[name][key]}
        for name, keys in wanted.items()
    }
    return {name: keys for name, keys in changed.items() if keys}


def with_fewer(sections: Sections, fewer: Mapping[str, Mapping[str, Any]]) -> Sections:
    """Return the sections with other values of some keys, which are checked as if given."""
    given = {name: getattr(sections, name) for name in fewer}
    return sections.model_copy(
        update={
            name: type(section).model_validate(
                {**section.model_dump(exclude_unset=True), **fewer[name]}
            )
            for name, section in given.items()
        }
    )


def _described(amounts: Amounts, fewer: Mapping[str, Mapping[str, Any]]) -> str:
    """Return numbers and changed settings for readers."""
    changes = [
        f"{name}.{key} {','.join(map(str, value)) if isinstance(value, list) else value}"
        for name, keys in fewer.items()
        for key, value in keys.items()
    ]
    return f"{amounts}; {', '.join(changes)}" if changes else str(amounts)


def limited(
    found: Mapping[str, Any], images: Mapping[str, Images], sections: Sections
) -> tuple[dict[str, Images], Sections]:
    """Return the images and settings with what ``amounts_within`` chose."""
    amounts, sections = Amounts(**found["amounts"]), with_fewer(sections, found["fewer"])
    chosen = {
        "criticality": {"images": amounts.criticality},
        "finetune": {"images": amounts.finetune, "epochs": amounts.epochs},
        "interpolate": {"images": amounts.selection},
    }
    smaller = {
        name: getattr(sections, name).model_copy(update=update) for name, update in chosen.items()
    }
    some = dict(images)
    if "test" in some:
        some["test"] = some["test"].up_to(amounts.test)
    return some, sections.model_copy(update=smaller)


def written(seconds: float) -> str:
    """Return a duration for readers, rounded up: ``40s``, ``12m``, ``1h 30m``."""
    if seconds < 60:
        return f"{-int(-seconds // 1)}s"
    minutes = -int(-seconds // 60)
    return f"{minutes}m" if minutes < 60 else f"{minutes // 60}h {minutes % 60}m"
