# Made once, for all jobs that share the modules.
rule examples:
    input:
        base="<results>/{run}/base.safetensors",
        data=prepared_of,
    output:
        temp("<results>/{run}/criticality/examples.safetensors"),
    log:
        "<logs>/{run}/criticality/examples.log",
    benchmark:
        "<benchmarks>/{run}/criticality/examples.tsv"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(8000),
        runtime="2h",
    params:
        **version("examples"),
        settings=flags("criticality", "attack"),
        seed=lambda wildcards: run_of(wildcards).seed,
    shell:
        "exec rift examples --base {input.base} --data {input.data} --seed {params.seed} {params.settings} --output {output}"
        " > {log} 2>&1"


rule criticality_shard:
    input:
        base="<results>/{run}/base.safetensors",
        data=prepared_of,
        adversarial=branch(lambda wildcards: wildcards.shards != "1", then=rules.examples.output, otherwise=[]),
    output:
        temp("<results>/{run}/criticality/shard{shard}-of-{shards}.safetensors"),
    log:
        "<logs>/{run}/criticality/shard{shard}-of-{shards}.log",
    benchmark:
        "<benchmarks>/{run}/criticality/shard{shard}-of-{shards}.tsv"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(lambda wildcards: 6000 + settings_of(wildcards).criticality.cache_mib),
        runtime="6h",
        cache_mib=lambda wildcards: settings_of(wildcards).criticality.cache_mib,
    params:
        **version("criticality"),
        settings=flags("criticality", "attack"),
        seed=lambda wildcards: run_of(wildcards).seed,
        adversarial=lambda wildcards, input: f"--adversarial {input.adversarial}" if input.adversarial else "",
    shell:
        "exec rift criticality --base {input.base} --data {input.data} --seed {params.seed} --shard {wildcards.shard}/{wildcards.shards}"
        " {params.settings} {params.adversarial} --criticality.cache_mib {resources.cache_mib} --output {output} > {log} 2>&1"


rule criticality:
    input:
        lambda wildcards: collect(
            rules.criticality_shard.output,
            shard=range(1, settings_of(wildcards).criticality.shards + 1),
            shards=settings_of(wildcards).criticality.shards,
            allow_missing=True,
        ),
    output:
        "<results>/{run}/criticality.csv",
    log:
        "<logs>/{run}/criticality.log",
    benchmark:
        "<benchmarks>/{run}/criticality.tsv"
    threads: 1
    resources:
        gpu=0,
        mem_mb=memory(4000),
        runtime="10m",
    params:
        shards=lambda wildcards, input: ",".join(input),
    shell:
        "exec rift merge criticality --shards {params.shards} --output {output} > {log} 2>&1"
