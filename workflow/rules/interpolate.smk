rule interpolate:
    input:
        base="<results>/{run}/base.safetensors",
        finetuned="<results>/{run}/{scope}/finetuned.safetensors",
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
        mem_mb=8000,
        runtime="2h",
    params:
        **version("interpolate"),
        settings=flags("interpolate", "attack"),
        seed=lambda wildcards: run_of(wildcards).seed,
    shell:
        "rift interpolate --base {input.base} --finetuned {input.finetuned} --data {input.data} --seed {params.seed}"
        " {params.settings} --sweep {output.sweep} --output {output.weights} --choice {output.selection} > {log} 2>&1"
