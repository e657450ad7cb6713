# Three rules make a base: each serves the runs whose base comes from it, so they never compete.
rule train:
    input:
        init=lambda wildcards: source_of_base(wildcards, experiment.initial(wildcards.run)),
        data=prepared_of,
        code=code_of,
    output:
        weights="<results>/{run}/base.safetensors",
        history="<results>/{run}/training.csv",
    log:
        "<logs>/{run}/train.log",
    benchmark:
        "<benchmarks>/{run}/train.tsv"
    wildcard_constraints:
        run=names(run.name for run in experiment.trained),
    threads: lambda wildcards: settings_of(wildcards).train.processes
    # The job occupies `gpu`, which a cluster without GPUs sets to 0. The settings below it change no
    # result. They are resources, so that a change of them does not re-run the job.
    resources:
        gpu=lambda wildcards: settings_of(wildcards).train.processes,
        mem_mb=memory(8000),
        runtime="24h",
        processes=lambda wildcards: settings_of(wildcards).train.processes,
        save_minutes=lambda wildcards: str(settings_of(wildcards).train.save_minutes),
        tensorboard=lambda wildcards: int(settings_of(wildcards).train.tensorboard),
    params:
        **version("train"),
        settings=flags("train", "attack", "inner", "augment", "regime"),
        cell=lambda wildcards: run_of(wildcards).cell,
        seed=lambda wildcards: run_of(wildcards).seed,
    # An interrupted job continues where it stopped.
    shell:
        "exec rift train --data {input.data} --architecture {params.cell.architecture} --regime {params.cell.regime}"
        " --seed {params.seed} {params.settings} --train.processes {resources.processes} --train.save_minutes {resources.save_minutes}"
        " --train.tensorboard {resources.tensorboard} --output {output.weights} --history {output.history} > {log} 2>&1"


rule import_base:
    input:
        weights=lambda wildcards: source_of_base(wildcards, experiment.imports[run_of(wildcards)].files),
        data=lambda wildcards: [] if run_of(wildcards) in experiment.outside else prepared_of(wildcards),
        code=code_of,
    output:
        weights="<results>/{run}/base.safetensors",
        manifest="<results>/{run}/imported.json",
    log:
        "<logs>/{run}/import.log",
    benchmark:
        "<benchmarks>/{run}/import.tsv"
    wildcard_constraints:
        run=names(run.name for run in experiment.imports),
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(8000),
        runtime="30m",
    params:
        **version("import"),
        settings=lambda wildcards: experiment.import_flags(run_of(wildcards)),
        images=lambda wildcards, input: (
            f"--data {input.data}" if input.data else f"--source {run_of(wildcards).cell.dataset}"
        ),
        cell=lambda wildcards: run_of(wildcards).cell,
    shell:
        "exec rift import {params.settings} --architecture {params.cell.architecture} {params.images}"
        " --output {output.weights} --manifest {output.manifest} > {log} 2>&1"


rule transfer:
    input:
        base=lambda wildcards: f"{results}/{experiment.transferred[run_of(wildcards)].name}/{layout.BASE}",
        data=prepared_of,
    output:
        weights="<results>/{run}/base.safetensors",
        history="<results>/{run}/training.csv",
    log:
        "<logs>/{run}/transfer.log",
    benchmark:
        "<benchmarks>/{run}/transfer.tsv"
    wildcard_constraints:
        run=names(run.name for run in experiment.transferred),
    threads: lambda wildcards: settings_of(wildcards).transfer.processes
    resources:
        gpu=lambda wildcards: settings_of(wildcards).transfer.processes,
        mem_mb=memory(8000),
        runtime="24h",
        processes=lambda wildcards: settings_of(wildcards).transfer.processes,
        save_minutes=lambda wildcards: str(settings_of(wildcards).transfer.save_minutes),
        tensorboard=lambda wildcards: int(settings_of(wildcards).transfer.tensorboard),
    params:
        **version("transfer"),
        settings=flags("transfer", "attack", "inner", "augment", "regime"),
        cell=lambda wildcards: run_of(wildcards).cell,
        seed=lambda wildcards: run_of(wildcards).seed,
    # An interrupted job continues where it stopped.
    shell:
        "exec rift transfer --base {input.base} --data {input.data} --method {params.cell.regime} --seed {params.seed} {params.settings}"
        " --transfer.processes {resources.processes} --transfer.save_minutes {resources.save_minutes}"
        " --transfer.tensorboard {resources.tensorboard} --output {output.weights} --history {output.history} > {log} 2>&1"
