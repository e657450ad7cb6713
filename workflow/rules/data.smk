rule prepare:
    input:
        raw_data,
    output:
        data="<results>/data/{dataset}/prepared.safetensors",
        manifest="<results>/data/{dataset}/manifest.json",
    log:
        "<logs>/data/{dataset}/prepare.log",
    benchmark:
        "<benchmarks>/data/{dataset}/prepare.tsv"
    threads: workflow.cores
    resources:
        gpu=0,
        mem_mb=memory(8000),
        runtime="30m",
    params:
        **version("prepare"),
        settings=lambda wildcards: experiment.flags(None, "data", dataset=wildcards.dataset),
    shell:
        "exec rift prepare --dataset {wildcards.dataset} {params.settings} --output {output.data} --manifest {output.manifest} > {log} 2>&1"


rule corrupt:
    input:
        raw_data,
        data=rules.prepare.output.data,
    output:
        images="<results>/data/{dataset}/corrupted/{corruption}.npy",
        source="<results>/data/{dataset}/corrupted/{corruption}.json",
    log:
        "<logs>/data/{dataset}/corrupted/{corruption}.log",
    benchmark:
        "<benchmarks>/data/{dataset}/corrupted/{corruption}.tsv"
    threads: 1
    resources:
        gpu=0,
        mem_mb=memory(8000),
        runtime="1h",
    params:
        **version("corrupt"),
        settings=lambda wildcards: experiment.flags(None, "corrupt", dataset=wildcards.dataset),
    shell:
        "exec rift corrupt --data {input.data} --corruption {wildcards.corruption} {params.settings} --output {output.images} > {log} 2>&1"
