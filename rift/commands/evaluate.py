"""Evaluation: ``rift evaluate``, ``rift merge adversarial`` and ``rift crosscheck``."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from rift import artifacts, config
from rift.artifacts.resume import Work, resumable
from rift.commands.command import (
    Command,
    Device,
    PreparedSet,
    Seed,
    Shard,
    opened,
    opened_device,
    opened_model,
    read_shard,
    say,
)
from rift.commands.criticality import check_equal
from rift.commands.roles import (
    CsvOutput,
    Input,
    JsonOutput,
    Neutral,
    NpzOutput,
    Output,
    check_ending,
)
from rift.config import Section
from rift.errors import RiftError
from rift.progress import display

if TYPE_CHECKING:
    import torch
    from torch import nn

    from rift.data import Prepared
    from rift.data.corruptions.files import CorruptedImages
    from rift.data.images import Images
    from rift.evaluation.ood import OodResult
    from rift.evaluation.stages import AttackKind


class _Evaluation(Command):
    """The base class of commands that evaluate weights on test images."""

    weights: Input[Path] = Field(description="Weights to evaluate.")
    data: PreparedSet

    def provenance(self, device: "torch.device | None" = None) -> artifacts.Provenance:
        """Return the provenance of the outputs, with the digest of the test images.

        Raises:
            RiftError: an input cannot be read.
        """
        from rift.data import test_set_digest

        # Paired comparisons are only valid between outcomes of the same test images.
        return {**super().provenance(device), "examples": test_set_digest(self.data)}


class EvaluateStandard(_Evaluation):
    """Measure the accuracy on clean test images."""

    stage = "evaluate standard"

    class Evaluate(Section):
        standard: config.Standard = config.Standard()

    evaluate: Evaluate = Evaluate()
    device: Device = "auto"
    output: JsonOutput[Path] = Field(description="Output: the result (.json).")
    outcomes: NpzOutput[Path] = Field(description="Output: outcome of every image (.npz).")

    def run(self) -> None:
        from rift.evaluation.accuracy import correct, refuse_non_finite

        device = opened_device(self.device)
        model, test = opened(self.weights, self.data, "test", device)
        images = test.first(self.evaluate.standard.images, "evaluate.standard.images")
        with display("standard") as progress, refuse_non_finite(model, str(self.weights)):
            outcomes = correct(model, images, progress=progress).cpu().numpy()
        source, accuracy = self.provenance(device), 100 * outcomes.mean()
        summary = artifacts.write_outcomes(self.outcomes, {"standard": outcomes}, source)
        result = {"accuracy": accuracy, "images": len(outcomes)}
        artifacts.write_json(self.output, result, summary)
        say(f"accuracy {accuracy:.2f}% on {len(outcomes)} test images")


class EvaluateOod(_Evaluation):
    """Measure the accuracy on corrupted test images."""

    stage = "evaluate ood"

    class Evaluate(Section):
        ood: config.Ood = config.Ood()

    corrupted: Input[tuple[Path, ...]] = Field(
        description="Corrupted images, one file per corruption (rift corrupt)."
    )
    evaluate: Evaluate = Evaluate()
    device: Device = "auto"
    output: CsvOutput[Path] = Field(
        description="Output: the table (.csv), one row per corruption and severity."
    )
    outcomes: NpzOutput[Path] = Field(
        description="Output: outcome of every image (.npz), severities × images per corruption."
    )

    def inputs(self) -> dict[str, str]:
        """Return the digests of the inputs.

        Corrupted images count by the digests of the files that describe them.

        Raises:
            RiftError: an input cannot be read.
        """
        described = {
            f"corrupted.{path.stem}": artifacts.content_digest(path.with_suffix(".json"))
            for path in self.corrupted
        }
        inputs = {"weights": self.weights, "data": self.data}
        return {
            **{name: artifacts.content_digest(path) for name, path in inputs.items()},
            **described,
        }

    def run(self) -> None:
        import pandas as pd

        device = opened_device(self.device)
        found = self._evaluated(device)
        source, rows = self.provenance(device), found.rows()
        summary = artifacts.write_outcomes(self.outcomes, found.outcomes, source)
        artifacts.write_csv(self.output, pd.DataFrame(rows), summary)
        corruptions, severities = len(self.evaluate.ood.names), len(self.evaluate.ood.severities)
        say(
            f"accuracy {found.accuracy:.2f}%, mean of {corruptions} corruptions × {severities}"
            f" severities on {rows[0]['images']} test images"
        )

    def _evaluated(self, device: "torch.device") -> "OodResult":
        """Return the result of the corruptions that the settings name.

        Raises:
            RiftError: a file cannot be loaded, or no file contains a named corruption.
        """
        from rift.data import load
        from rift.evaluation.accuracy import refuse_non_finite
        from rift.evaluation.ood import evaluate_ood

        prepared = load(self.data, ("test",))
        model, _ = opened_model(self.weights, prepared, self.data, device)
        with display("ood") as progress, refuse_non_finite(model, str(self.weights)):
            found = evaluate_ood(
                model,
                self._images(prepared, device),
                count=len(self.corrupted),
                progress=progress,
            )
        names = self.evaluate.ood.names
        if missing := [name for name in names if name not in found.outcomes]:
            raise RiftError(
                f"--corrupted: no file contains {', '.join(missing)}; pass a file (rift corrupt)"
                " for each corruption of evaluate.ood.corruptions"
            )
        return found.only(names)

    def _images(self, prepared: "Prepared", device: "torch.device") -> "Iterator[CorruptedImages]":
        """Yield the images of one file after the other, so that memory contains only one file."""
        from rift.data.corruptions.files import severities_of

        for path in self.corrupted:
            yield severities_of(
                path, prepared, self.evaluate.ood, data=str(self.data), device=device
            )


class EvaluateAdversarial(_Evaluation):
    """Measure the accuracy under PGD and AutoAttack; an interrupted job continues."""

    stage = "evaluate adversarial"
    adoptable = True
    memory = (
        "--evaluate.autoattack.batch_size and --evaluate.pgd.batch_size (this changes the random"
        " numbers)"
    )

    class Evaluate(Section):
        pgd: config.Pgd = config.Pgd()
        autoattack: config.AutoAttack = config.AutoAttack()

    attacks: tuple[Literal["pgd", "autoattack"], ...] = Field(
        ("pgd", "autoattack"), min_length=1, description="Attacks to run."
    )
    seed: Seed = 0
    attack: config.Attack = config.Attack()
    evaluate: Evaluate = Evaluate()
    device: Device = "auto"
    shard: Neutral[Shard | None] = Field(
        None,
        description="Shard K/N, for example 2/4: attack only the K-th of N parts of the images."
        " rift merge adversarial merges the shards.",
    )
    output: Output[Path] = Field(
        description="Output: the results (.json), or with --shard the raw results (.safetensors)."
        " While the job runs, OUTPUT.state contains its state."
    )
    outcomes: NpzOutput[Path | None] = Field(
        None,
        description="Output: outcome of every image (.npz). Required without --shard, not allowed"
        " with it.",
    )

    @model_validator(mode="after")
    def _a_shard_has_no_outcomes(self) -> "EvaluateAdversarial":
        if (self.shard is None) != (self.outcomes is not None):
            problem = (
                "is required without --shard"
                if self.shard is None
                else "is not allowed with --shard; rift merge adversarial writes it"
            )
            raise ValueError(f"--outcomes: {problem}")
        ending = ".json" if self.shard is None else ".safetensors"
        check_ending(self.output, ending, "--output: the name")
        return self

    def run(self) -> None:
        shard = read_shard(self.shard)
        device = opened_device(self.device)
        model, test = opened(self.weights, self.data, "test", device)
        source = self.provenance(device)
        begun_with = {**self.begun_with(source), "shard": "{}/{}".format(*shard)}
        with resumable(self.output, begun_with, at_once=True, tell=say) as work:
            if work.state:
                steps = ", ".join(
                    f"{work.state[name]['done']} steps of {name}" for name in work.state
                )
                say(f"continuing after {steps}")
            attacked = self._attacked(model, test, shard, work)
            found = {kind: broken_at.cpu().numpy() for kind, broken_at in attacked.items()}
            if self.outcomes is None:
                artifacts.write_arrays(
                    self.output, {str(kind): broken_at for kind, broken_at in found.items()}, source
                )
            else:
                _write_adversarial(self.output, self.outcomes, found, source)

    def _attacked(
        self, model: "nn.Module", test: "Images", shard: tuple[int, int], work: Work
    ) -> "dict[AttackKind, torch.Tensor]":
        """Return the outcomes of the attacks on one shard of the images.

        Raises:
            RiftError: the network returns values that are not finite.
        """
        from rift.evaluation.accuracy import refuse_non_finite
        from rift.evaluation.adversarial import evaluate_adversarial

        with refuse_non_finite(model, str(self.weights)):
            return evaluate_adversarial(
                model,
                test,
                attacks=self.attacks,
                settings=config.Evaluate(**dict(self.evaluate)),
                attack=self.attack,
                seed=self.seed,
                shard=shard,
                kept=work.state,
                keep=work.save,
                show=display,
            )


class MergeAdversarial(Command):
    """Merge the shards of an adversarial evaluation."""

    stage = "evaluate adversarial"

    shards: Input[tuple[Path, ...]] = Field(
        min_length=1, description="Raw results (rift evaluate adversarial --shard)."
    )
    output: JsonOutput[Path] = Field(description="Output: the results (.json).")
    outcomes: NpzOutput[Path] = Field(description="Output: outcome of every image (.npz).")

    def run(self) -> None:
        from rift.evaluation.stages import join

        shards = [artifacts.read_arrays(path, (), ("provenance",)) for path in self.shards]
        sources = [artifacts.without_digests(facts["provenance"]) for _, facts in shards]
        check_equal(self.shards, sources)
        found = {
            kind: join([arrays[kind] for arrays, _ in shards])
            for kind in sources[0]["settings"]["attacks"]
        }
        _write_adversarial(self.output, self.outcomes, found, sources[0])
        artifacts.forget_finished(self.shards)


class Crosscheck(_Evaluation):
    """Run the benchmark of RobustBench on the same images, and compare its results with rift's."""

    stage = "crosscheck"
    memory = "--batch_size"

    images: Annotated[int, Field(ge=1)] = Field(
        100, description="Number of test images, from the first: ≥ 1."
    )
    batch_size: Annotated[int, Field(ge=1)] = Field(
        250, description="Number of images that are attacked at once: ≥ 1."
    )
    seed: Seed = 0
    attack: config.Attack = config.Attack()
    device: Device = "auto"
    output: JsonOutput[Path] = Field(description="Output: the comparison (.json).")

    def run(self) -> None:
        from rift.evaluation.accuracy import refuse_non_finite
        from rift.evaluation.robustbench import crosscheck

        device = opened_device(self.device)
        model, test = opened(self.weights, self.data, "test", device)
        with refuse_non_finite(model, str(self.weights)):
            found = crosscheck(
                model,
                test.first(self.images, "--images"),
                eps=self.attack.eps,
                norm=self.attack.norm,
                seed=self.seed,
                batch_size=self.batch_size,
                show=display,
            )
        attack = self.attack.model_dump(include={"norm", "eps"})
        facts = {**attack, **found.facts()}
        artifacts.write_json(self.output, facts, self.provenance(device))
        for name in ("rift", "robustbench"):
            clean, robust = facts[name]["clean_accuracy"], facts[name]["robust_accuracy"]
            say(f"{name}: accuracy {clean:.2f}%, under AutoAttack {robust:.2f}%")
        counts = ", ".join(
            f"{count} {name.replace('_', ' ')}" for name, count in facts["differing"].items()
        )
        verdict = "they agree" if found.agree else "THEY DO NOT AGREE"
        say(f"{verdict}; differing outcomes of {facts['images']} images: {counts}")
        if not found.agree:
            raise SystemExit(1)


def _write_adversarial(
    output: Path,
    outcomes: Path,
    found: "dict[AttackKind, artifacts.Array]",
    source: artifacts.Provenance,
) -> None:
    """Write the results and outcomes of attacks, and print the accuracy under each attack."""
    from rift.evaluation.stages import summarize

    # The file of a shard has sorted keys. Sorting here too makes equal results equal in bytes.
    source = json.loads(json.dumps(source, sort_keys=True))
    settings = source["settings"]
    result = summarize(
        found,
        attack=settings["attack"],
        restarts=settings["evaluate"]["pgd"]["restarts"],
        settings=config.AutoAttack(**settings["evaluate"]["autoattack"]),
    )
    if result.masks_gradients:
        say(
            "warning: Square breaks more than 0.2% of the images after the gradient-based attacks;"
            " the network may mask gradients, and its true robust accuracy may be lower"
        )
    summary = artifacts.write_outcomes(outcomes, result.outcomes, source)
    artifacts.write_json(output, result.results, summary)
    for kind, facts in result.results.items():
        say(f"{kind}: accuracy {facts['accuracy']:.2f}% on {facts['images']} test images")
