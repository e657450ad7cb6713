rule criticality:
    input:
        base="<results>/<run>/base.safetensors",
        data="<results>/data/{dataset}/prepared.safetensors",
    output:
        "<results>/<run>/criticality.csv",
    log:
        "<logs>/<run>/criticality.log",
    benchmark:
        "<benchmarks>/<run>/criticality.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=8000,
        runtime="6h",
    params:
        settings=flags("criticality", "attack"),
    shell:
        "rift criticality --base {input.base} --data {input.data} --seed {wildcards.seed}"
        " {params.settings} --output {output} > {log} 2>&1"
