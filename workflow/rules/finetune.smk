rule finetune:
    input:
        base="<results>/<run>/base.safetensors",
        criticality="<results>/<run>/criticality.csv",
        data="<results>/data/{dataset}/prepared.safetensors",
    output:
        weights="<results>/<run>/{scope}/finetuned.safetensors",
        history="<results>/<run>/{scope}/finetuning.csv",
    log:
        "<logs>/<run>/{scope}/finetune.log",
    benchmark:
        "<benchmarks>/<run>/{scope}/finetune.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=8000,
        runtime="2h",
    params:
        settings=flags("finetune", "augment"),
    shell:
        "rift finetune --base {input.base} --criticality {input.criticality} --data {input.data} --scope {wildcards.scope}"
        " --seed {wildcards.seed} {params.settings} --output {output.weights} --history {output.history} > {log} 2>&1"
