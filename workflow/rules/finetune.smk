rule finetune:
    input:
        base=start_of_finetuning,
        criticality="<results>/{run}/criticality.csv",
        data=prepared_of,
    output:
        weights="<results>/{run}/{scope}/finetuned.safetensors",
        history="<results>/{run}/{scope}/finetuning.csv",
    log:
        "<logs>/{run}/{scope}/finetune.log",
    benchmark:
        "<benchmarks>/{run}/{scope}/finetune.tsv"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(8000),
        runtime="2h",
    params:
        **version("finetune"),
        settings=lambda wildcards: experiment.finetune_flags(wildcards.run, wildcards.scope),
        seed=lambda wildcards: run_of(wildcards).seed,
    shell:
        "exec rift finetune --base {input.base} --criticality {input.criticality} --data {input.data} --scope {wildcards.scope}"
        " --seed {params.seed} {params.settings} --output {output.weights} --history {output.history} > {log} 2>&1"
