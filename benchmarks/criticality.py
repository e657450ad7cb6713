"""Module robust criticality: the time of a whole table, and the results of the searches.

speed  time, memory and results of a table: the method of the official code against ``published``
       and ``pga``. The official code copies the network for each module, uses the default memory
       layout and whole forward passes, and takes one more pass to measure the loss.
study  results of pga and of the first-order estimate for several settings, against ``published``
race   the race for ``rift`` and ``top3`` next to the official code: its time, its choice next to
       that of the tightest search known, and its MRC over that of ``published``. The official code
       measures some modules only, in turns with the race, and its time is scaled to all. Times are
       those of the processor, which other programs of the machine disturb less.
draws  the choice of the race on several draws of the images, next to that of pga on all of them
precision  the whole table of the default search in float32 and in bfloat16: MRCs, ranks and choices

All need the weights of a robust network and a prepared data set from ``rift train`` and
``rift prepare``, because the results depend on them.
"""

import argparse
import ctypes
import math
import re
import statistics
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path

import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F

from rift.config import Attack, Criticality, Precision
from rift.criticality import (
    adversarial_examples,
    criticality_table,
    measure,
    measured_modules,
    measured_weight,
    module_robust_criticality,
    shard,
)
from rift.data import load
from rift.data.images import Images
from rift.models import checkpoint
from side_by_side import in_default_layout, ratio

# The official code measures every seventh module beside the race.
SAMPLE = 7
DRAWS = 10
# The rounds divide the modules among themselves.
ROUNDS = 3
CPU = torch.device("cpu")
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
Table = dict[str, float]


def official(
    model: nn.Module, images: Tensor, labels: Tensor, modules: list[str], settings: Criticality
) -> Table:
    """Measure modules like the official code: with its batches, and all other weights frozen."""
    network = in_default_layout(model).eval()
    batches = list(
        zip(images.split(settings.batch_size), labels.split(settings.batch_size), strict=True)
    )

    def loss_of(network: nn.Module) -> float:
        with torch.no_grad():
            return sum(
                F.cross_entropy(network(x), y, reduction="sum").item() for x, y in batches
            ) / len(labels)

    before, found = loss_of(network), {}
    for name in modules:
        copy = deepcopy(network).requires_grad_(False)
        weight = measured_weight(copy.get_submodule(name)).requires_grad_(True)
        start = weight.detach().clone()
        optimizer = torch.optim.SGD([weight], lr=settings.learning_rate)
        worst = 0.0
        for _ in range(settings.epochs):
            for x, y in batches:
                optimizer.zero_grad()
                (-F.cross_entropy(copy(x), y)).backward()
                optimizer.step()
            with torch.no_grad():
                share = (weight - start).norm() / start.norm()
                if share > settings.epsilon:
                    weight.copy_(start + (weight - start) / share * settings.epsilon)
            worst = max(worst, loss_of(copy))
        found[name] = worst - before
    return found


def ours(
    model: nn.Module, images: Tensor, labels: Tensor, modules: list[str], settings: Criticality
) -> Table:
    rows = criticality_table(measure(model, images, labels, modules, settings=settings, seed=0))
    return {row.module: row.mrc for row in rows}


class Memory:
    """The peak memory of a call in MiB, beyond the memory that the process held before."""

    def __enter__(self) -> "Memory":
        # Return freed memory to the system first; otherwise, the next call would reuse it
        # unnoticed.
        ctypes.CDLL(None).malloc_trim(0)
        RESET.write_text("5")
        self.before = self._read("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        self.needed = self._read("VmHWM") - self.before

    @staticmethod
    def _read(field: str) -> float:
        (kib,) = re.findall(rf"{field}:\s+(\d+) kB", STATUS.read_text())
        return int(kib) / 1024


def compare_speed(
    model: nn.Module, adversarial: Tensor, labels: Tensor, precision: Precision
) -> None:
    names = list(measured_modules(model))
    asked = Criticality(method="published", precision=precision)
    rivals: dict[str, Callable[[list[str]], Table]] = {
        "official": lambda some: official(model, adversarial, labels, some, asked),
        "published": lambda some: ours(model, adversarial, labels, some, asked),
        "pga": lambda some: ours(
            model, adversarial, labels, some, Criticality(precision=precision)
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in rivals}
    found: dict[str, Table] = {name: {} for name in rivals}
    memory: dict[str, list[float]] = {name: [] for name in rivals}
    for run in rivals.values():
        # The first call is slower, so it is not measured.
        run(names[-1:])
    for number in range(1, ROUNDS + 1):
        some = shard(names, number, ROUNDS)
        for name, run in rivals.items():
            with Memory() as needed:
                begun = time.perf_counter()
                found[name] |= run(some)
                times[name].append(time.perf_counter() - begun)
            memory[name].append(needed.needed)
    print(
        f"Table of {len(names)} modules, {len(labels)} images, {precision}, "
        f"{torch.get_num_threads()} threads"
    )
    for name in rivals:
        print(
            f"  {name:10}{sum(times[name]):9.1f} s"
            f"   {sum(times['official']) / sum(times[name]):6.2f} times official; by round"
            f" {ratio(times['official'], times[name])}; memory {max(memory[name]):.0f} MiB"
        )
    off = max(abs(found["published"][name] / found["official"][name] - 1) for name in names)
    print(f"  published and official differ by {off:.1e} at most, relatively")
    reached = {name: found["pga"][name] / found["official"][name] for name in names}
    print_reached("pga", reached)


def print_reached(name: str, reached: Mapping[str, float]) -> None:
    values = list(reached.values())
    least = min(reached, key=lambda module: reached[module])
    shares = ", ".join(
        f"at least {limit}: {sum(v >= limit for v in values)}" for limit in (1, 0.999, 0.99)
    )
    print(
        f"  {name}: of {len(values)} modules, its MRC over that published is {shares};"
        f" geometric mean {math.exp(statistics.fmean(map(math.log, values))):.3f},"
        f" least {reached[least]:.3f} ({least})",
        flush=True,
    )


def study(model: nn.Module, adversarial: Tensor, labels: Tensor, precision: Precision) -> None:
    variants = {
        "published": Criticality(method="published"),
        "pga": Criticality(),
        "pga, restarts 0": Criticality(restarts=0),
        "pga, passes 2": Criticality(passes=2),
        "pga, passes 6": Criticality(passes=6),
        "gradient": Criticality(method="gradient", batch_size=64),
    }
    rows, taken = {}, {}
    for name, asked in variants.items():
        begun = time.perf_counter()
        settings = asked.model_copy(update={"precision": precision})
        rows[name] = module_robust_criticality(
            model, adversarial, labels, settings=settings, seed=0
        )
        taken[name] = time.perf_counter() - begun
    found = {name: {row.module: row.mrc for row in table} for name, table in rows.items()}
    print(f"{len(labels)} images, {precision}; MRC, published; then, over that:")
    for row in rows["published"]:
        others = "".join(f"{found[name][row.module] / row.mrc:8.3f}" for name in list(variants)[1:])
        print(
            f"  {row.module:24}{row.mrc:9.4f}{others}   error {row.mrc_error:.4f}, rank {row.rank}"
        )
    searches = [name for name in variants if name != "gradient"]
    best = [max(found[name][row.module] for name in searches) for row in rows["published"]]
    for name in variants:
        rank = spearmanr(list(found[name].values()), best).statistic
        print(f"  {name}: {taken[name]:.1f} s; rank correlation with the largest found {rank:.3f}")
        print_reached(
            name, {module: mrc / found["published"][module] for module, mrc in found[name].items()}
        )


def compare_race(
    model: nn.Module, adversarial: Tensor, labels: Tensor, precision: Precision
) -> None:
    names = list(measured_modules(model))
    some = shard(names, 1, SAMPLE)
    asked = Criticality(method="published")
    race = Criticality(method="race", least=(1, 3), precision=precision)
    ours(model, adversarial[:64], labels[:64], names[-1:], race)  # the first call is slower
    official_times, times = [], []
    for name in some:
        begun = time.process_time()
        official(model, adversarial, labels, [name], asked)
        official_times.append(time.process_time() - begun)
        if name == some[len(some) // 2]:
            begun = time.process_time()
            rows = module_robust_criticality(model, adversarial, labels, settings=race, seed=0)
            times.append(time.process_time() - begun)
    whole = sum(official_times) * len(names) / len(some)
    print(
        f"{len(labels)} images, race in {precision}, {torch.get_num_threads()} threads: official"
        f" (float32) {whole:.0f} s for {len(names)} modules, from {len(some)} of them; race"
        f" {sum(times):.1f} s, {whole / sum(times):.1f} times as fast"
    )
    by_rank = sorted(rows, key=lambda row: row.rank)
    to_the_end = [row for row in rows if row.settled]
    rivals = [row.module for row in by_rank if row.mrc < 2.5 * by_rank[2].mrc]
    found = {
        name: ours(model, adversarial, labels, rivals, asked)
        for name, asked in tightest_known(precision).items()
    }
    # An MRC is a maximum, so the largest one found is the best known, whichever search found it.
    found["race"] = {row.module: row.mrc for row in rows if row.images == len(labels)}
    tightest = {
        module: max(table[module] for table in found.values() if module in table)
        for module in rivals
    }
    order = sorted(tightest, key=lambda module: tightest[module])
    for row in by_rank[: len(rivals)]:
        others = max(table[row.module] for name, table in found.items() if name != "race")
        print(
            f"  {row.module:24}{row.mrc:9.4f} ± {row.mrc_error:.4f} on {row.images:5} images, upper"
            f" {row.mrc_upper:.4f}; published {found['published'][row.module]:.4f}, largest of the"
            f" other searches {others:.4f}"
        )
    chosen = [row.module for row in by_rank[:3]]
    print(
        f"  rift as by the tightest search: {chosen[:1] == order[:1]}; top3:"
        f" {set(chosen) == set(order[:3])}"
    )
    print_reached(
        "race, modules to the end",
        {row.module: row.mrc / found["published"][row.module] for row in to_the_end},
    )


def tightest_known(precision: Precision) -> dict[str, Criticality]:
    return {
        "published": Criticality(method="published", precision=precision),
        "pga": Criticality(precision=precision),
        "pga, restarts 0": Criticality(restarts=0, precision=precision),
    }


def compare_draws(
    model: nn.Module, adversarial: Tensor, labels: Tensor, precision: Precision
) -> None:
    names, draw = list(measured_modules(model)), torch.Generator().manual_seed(0)
    race = Criticality(method="race", least=(1, 3), precision=precision)
    agreed = {"rift": 0, "top3": 0}
    for number in range(DRAWS):
        some = torch.randperm(len(labels), generator=draw)[: len(labels) // 4]
        images, targets = adversarial[some], labels[some]
        begun = time.process_time()
        rows = module_robust_criticality(model, images, targets, settings=race, seed=0)
        taken = time.process_time() - begun
        by_rank = sorted(rows, key=lambda row: row.rank)
        # Modules of far higher MRC are measured by neither side: they cannot be chosen.
        rivals = [row.module for row in by_rank if row.mrc < 5 * by_rank[2].mrc]
        begun = time.process_time()
        tables = [
            ours(model, images, targets, rivals, Criticality(precision=precision, restarts=starts))
            for starts in (10, 0)
        ]
        whole = (time.process_time() - begun) * len(names) / len(rivals) / 2
        table = {module: max(each[module] for each in tables) for module in rivals}
        order = sorted(table, key=lambda module: table[module])
        chosen = [row.module for row in by_rank[:3]]
        agreed["rift"] += chosen[0] == order[0]
        agreed["top3"] += set(chosen) == set(order[:3])
        print(
            f"  draw {number}: {max(row.images for row in rows)} of {len(targets)} images,"
            f" {sum(row.images == max(r.images for r in rows) for row in rows)} modules to the end,"
            f" {taken:.1f} s (pga {whole:.1f} s); race {chosen}; pga"
            f" {[(module, round(table[module], 4)) for module in order[:5]]}",
            flush=True,
        )
    print(f"  the same choice in {DRAWS} draws: {agreed}")


def compare_precisions(model: nn.Module, adversarial: Tensor, labels: Tensor, _: Precision) -> None:
    tables = {
        precision: criticality_table(
            measure(
                model,
                adversarial,
                labels,
                list(measured_modules(model)),
                settings=Criticality(precision=precision),
                seed=0,
            )
        )
        for precision in ("float32", "bfloat16")
    }
    full, half = ({row.module: row for row in rows} for rows in tables.values())
    one, two = ([table[name].mrc for name in full] for table in (full, half))
    print(f"{len(labels)} images: rank correlation {spearmanr(one, two).statistic:.4f}")
    order, other = (sorted(full, key=lambda name: table[name].rank) for table in (full, half))
    for place, name in enumerate(order):
        row, mrc = full[name], half[name].mrc
        print(
            f"  {name:24}{row.mrc:9.4f} ± {row.mrc_error:.4f}{'=' if row.tied else ' '} in bfloat16"
            f" {mrc:9.4f} ({mrc / row.mrc:.3f}), rank {place + 1} and {other.index(name) + 1}"
        )
    for count in (1, 2, 3, 5):
        print(f"  the same {count} least critical: {set(order[:count]) == set(other[:count])}")


PARTS: dict[str, Callable[[nn.Module, Tensor, Tensor, Precision], None]] = {
    "speed": compare_speed,
    "study": study,
    "race": compare_race,
    "draws": compare_draws,
    "precision": compare_precisions,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--base", type=Path, required=True, help="weights, as `rift train` writes them"
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="data set, as `rift prepare` writes it"
    )
    parser.add_argument("--images", type=int, default=256, help="training images (256)")
    parser.add_argument(
        "--eps", type=float, default=8 / 255, help="of the attack; its step is a quarter (8/255)"
    )
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--only", choices=PARTS)
    asked = parser.parse_args()
    model, _ = checkpoint.load(asked.base, CPU)
    data: Images = load(asked.data, ("train",)).split("train").up_to(asked.images)
    adversarial = adversarial_examples(
        model, data, attack=Attack(eps=asked.eps, step=asked.eps / 4, steps=10), seed=0
    )
    for name, part in PARTS.items():
        if asked.only in (None, name):
            part(model, adversarial, data.labels, asked.precision)


if __name__ == "__main__":
    main()
