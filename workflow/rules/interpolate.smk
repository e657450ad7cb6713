rule interpolate:
    input:
        base="<results>/{run}/base.safetensors",
        finetuned="<results>/{run}/{scope}/finetuned.safetensors",
        earned=earned_of,
        data=prepared_of,
    output:
        sweep="<results>/{run}/{scope}/sweep.csv",
        weights="<results>/{run}/{scope}/selected.safetensors",
        selection="<results>/{run}/{scope}/selection.json",
    log:
        "<logs>/{run}/{scope}/interpolate.log",
    benchmark:
        "<benchmarks>/{run}/{scope}/interpolate.tsv"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(8000),
        runtime="2h",
    params:
        **version("interpolate"),
        settings=lambda wildcards: experiment.interpolate_flags(wildcards.run, wildcards.scope),
        earned=lambda wildcards, input: f"--earned {input.earned}" if input.earned else "",
        seed=lambda wildcards: run_of(wildcards).seed,
    shell:
        "exec rift interpolate --base {input.base} --finetuned {input.finetuned} {params.earned} --data {input.data} --seed {params.seed}"
        " {params.settings} --sweep {output.sweep} --output {output.weights} --choice {output.selection} > {log} 2>&1"
