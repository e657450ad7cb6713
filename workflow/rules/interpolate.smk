rule interpolate:
    input:
        base="<results>/<run>/base.safetensors",
        finetuned="<results>/<run>/{scope}/finetuned.safetensors",
        data="<results>/data/{dataset}/prepared.safetensors",
    output:
        sweep="<results>/<run>/{scope}/sweep.csv",
        weights="<results>/<run>/{scope}/selected.safetensors",
        selection="<results>/<run>/{scope}/selection.json",
    log:
        "<logs>/<run>/{scope}/interpolate.log",
    benchmark:
        "<benchmarks>/<run>/{scope}/interpolate.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=8000,
        runtime="2h",
    params:
        settings=flags("interpolate", "attack"),
    shell:
        "rift interpolate --base {input.base} --finetuned {input.finetuned} --data {input.data} --seed {wildcards.seed}"
        " {params.settings} --sweep {output.sweep} --output {output.weights} --choice {output.selection} > {log} 2>&1"
