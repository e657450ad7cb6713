rule evaluate_standard:
    input:
        weights=weights_of,
        data=prepared_of,
    output:
        result="<results>/{run}/evaluation/{variant}/standard.json",
        outcomes="<results>/{run}/evaluation/{variant}/standard.npz",
    log:
        "<logs>/{run}/evaluation/{variant}/standard.log",
    benchmark:
        "<benchmarks>/{run}/evaluation/{variant}/standard.tsv"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(8000),
        runtime="30m",
    params:
        **version("evaluate standard"),
        settings=flags("evaluate.standard"),
    shell:
        "exec rift evaluate standard --weights {input.weights} --data {input.data} {params.settings}"
        " --output {output.result} --outcomes {output.outcomes} > {log} 2>&1"


rule evaluate_ood:
    input:
        weights=weights_of,
        data=prepared_of,
        corrupted=lambda wildcards: collect(
            rules.corrupt.output.images,
            dataset=run_of(wildcards).cell.target,
            corruption=settings_of(wildcards).evaluate.ood.names,
        ),
    output:
        result="<results>/{run}/evaluation/{variant}/ood.csv",
        outcomes="<results>/{run}/evaluation/{variant}/ood.npz",
    log:
        "<logs>/{run}/evaluation/{variant}/ood.log",
    benchmark:
        "<benchmarks>/{run}/evaluation/{variant}/ood.tsv"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(8000),
        runtime="1h",
    params:
        **version("evaluate ood"),
        settings=flags("evaluate.ood"),
        corrupted=lambda wildcards, input: ",".join(input.corrupted),
    shell:
        "exec rift evaluate ood --weights {input.weights} --data {input.data} --corrupted {params.corrupted} {params.settings}"
        " --output {output.result} --outcomes {output.outcomes} > {log} 2>&1"


# An interrupted job continues where it stopped.
rule evaluate_adversarial_shard:
    input:
        weights=weights_of,
        data=prepared_of,
    output:
        temp("<results>/{run}/evaluation/{variant}/adversarial/shard{shard}-of-{shards}.safetensors"),
    log:
        "<logs>/{run}/evaluation/{variant}/adversarial/shard{shard}-of-{shards}.log",
    benchmark:
        "<benchmarks>/{run}/evaluation/{variant}/adversarial/shard{shard}-of-{shards}.tsv"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory(8000),
        runtime="12h",
    params:
        **version("evaluate adversarial"),
        settings=flags("attack", "evaluate.pgd", "evaluate.autoattack"),
        seed=lambda wildcards: run_of(wildcards).seed,
        attacks=branch(lambda wildcards: wildcards.variant in grid.autoattack, then="pgd,autoattack", otherwise="pgd"),
    shell:
        "exec rift evaluate adversarial --weights {input.weights} --data {input.data} --attacks {params.attacks} --seed {params.seed}"
        " --shard {wildcards.shard}/{wildcards.shards} {params.settings} --output {output} > {log} 2>&1"


rule evaluate_adversarial:
    input:
        lambda wildcards: collect(
            rules.evaluate_adversarial_shard.output,
            shard=range(1, settings_of(wildcards).evaluate.adversarial.shards + 1),
            shards=settings_of(wildcards).evaluate.adversarial.shards,
            allow_missing=True,
        ),
    output:
        result="<results>/{run}/evaluation/{variant}/adversarial.json",
        outcomes="<results>/{run}/evaluation/{variant}/adversarial.npz",
    log:
        "<logs>/{run}/evaluation/{variant}/adversarial.log",
    benchmark:
        "<benchmarks>/{run}/evaluation/{variant}/adversarial.tsv"
    threads: 1
    resources:
        gpu=0,
        mem_mb=memory(4000),
        runtime="10m",
    params:
        shards=lambda wildcards, input: ",".join(input),
    shell:
        "exec rift merge adversarial --shards {params.shards} --output {output.result} --outcomes {output.outcomes} > {log} 2>&1"
