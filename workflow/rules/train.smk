rule train:
    input:
        data="<results>/data/{dataset}/prepared.safetensors",
    output:
        weights="<results>/<run>/base.safetensors",
        history="<results>/<run>/training.csv",
    log:
        "<logs>/<run>/train.log",
    benchmark:
        "<benchmarks>/<run>/train.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=8000,
        runtime="24h",
    params:
        settings=flags("train", "attack", "augment"),
    shell:
        "rift train --data {input.data} --architecture {wildcards.architecture} --regime {wildcards.regime} --seed {wildcards.seed}"
        " {params.settings} --output {output.weights} --history {output.history} > {log} 2>&1"
