# Where a base is from is settled by the path that its run lies under: one rule makes those that are imported, the other
# the rest, and neither ever stands in for the other.
imported = names(experiment.imported_paths)


rule train:
    input:
        init=lambda wildcards: experiment.initial(**run_of(wildcards)),
        data="<results>/data/{dataset}/prepared.safetensors",
    output:
        weights="<results>/<run>/base.safetensors",
        history="<results>/<run>/training.csv",
    log:
        "<logs>/<run>/train.log",
    benchmark:
        "<benchmarks>/<run>/train.tsv"
    wildcard_constraints:
        dataset=f"(?!({imported})/)({names(grid.datasets)})",
    conda:
        "../../environment.yml"
    threads: 1
    # What changes no result is a resource: a changed one re-runs nothing. A job that was killed goes on where it was.
    resources:
        gpu=lambda wildcards: settings_of(wildcards).train.processes,
        mem_mb=8000,
        runtime="24h",
        save_minutes=lambda wildcards: str(settings_of(wildcards).train.save_minutes),
        tensorboard=lambda wildcards: int(settings_of(wildcards).train.tensorboard),
    params:
        settings=flags("train", "attack", "inner", "augment", "regime"),
    shell:
        "rift train --data {input.data} --architecture {wildcards.architecture} --regime {wildcards.regime} --seed {wildcards.seed}"
        " {params.settings} --train.processes {resources.gpu} --train.save_minutes {resources.save_minutes}"
        " --train.tensorboard {resources.tensorboard} --output {output.weights} --history {output.history} > {log} 2>&1"


rule import_base:
    input:
        weights=lambda wildcards: experiment.imported(**run_of(wildcards)).files,
        data="<results>/data/{dataset}/prepared.safetensors",
    output:
        weights="<results>/<run>/base.safetensors",
        manifest="<results>/<run>/imported.json",
    log:
        "<logs>/<run>/import.log",
    benchmark:
        "<benchmarks>/<run>/import.tsv"
    wildcard_constraints:
        dataset=f"(?=({imported})/)({names(grid.datasets)})",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=8000,
        runtime="30m",
    params:
        settings=lambda wildcards: experiment.imported(**run_of(wildcards)).flags,
    shell:
        "rift import {params.settings} --architecture {wildcards.architecture} --data {input.data}"
        " --output {output.weights} --manifest {output.manifest} > {log} 2>&1"
