# One file of each job stands for all that it writes: a grid has thousands, and Snakemake looks at every one.
rule table:
    input:
        collect(rules.criticality.output, **cells),
        collect(rules.interpolate.output.selection, **cells, scope=grid.scopes),
        collect(rules.evaluate_standard.output.outcomes, **cells, variant=grid.variants),
        collect(rules.evaluate_ood.output.outcomes, **cells, variant=grid.variants),
        collect(rules.evaluate_adversarial.output.outcomes, **cells, variant=grid.variants),
    output:
        html=report(
            "<results>/tables/{table}.html",
            caption="../report/table.rst",
            category="1. Tables",
            labels={"table": "{table}"},
        ),
        csv="<results>/tables/{table}.csv",
        markdown="<results>/tables/{table}.md",
        latex="<results>/tables/{table}.tex",
    log:
        "<logs>/tables/{table}.log",
    benchmark:
        "<benchmarks>/tables/{table}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=4000,
        runtime="30m",
    params:
        settings=flags("grid"),
        results=subpath(output.html, ancestor=2),
        output=lambda wildcards, output: ",".join(output),
    shell:
        "rift table {wildcards.table} --results {params.results} {params.settings} --output {params.output} > {log} 2>&1"


rule figure:
    input:
        branch(
            lambda wildcards: wildcards.figure == "training",
            then=collect(rules.train.output.history, seed=grid.seeds, allow_missing=True),
            otherwise=[],
        ),
        collect(rules.criticality.output, seed=grid.seeds, allow_missing=True),
        collect(rules.interpolate.output.sweep, seed=grid.seeds, scope=grid.scopes, allow_missing=True),
        collect(rules.evaluate_ood.output.result, seed=grid.seeds, variant=grid.variants, allow_missing=True),
        branch(
            lambda wildcards: wildcards.figure == "pareto",
            then=collect(
                rules.evaluate_standard.output.outcomes, seed=grid.seeds, variant=grid.variants, allow_missing=True
            ),
            otherwise=[],
        ),
        branch(
            lambda wildcards: wildcards.figure == "pareto",
            then=collect(
                rules.evaluate_adversarial.output.outcomes, seed=grid.seeds, variant=grid.variants, allow_missing=True
            ),
            otherwise=[],
        ),
    output:
        png=report(
            "<results>/figures/{dataset}/{architecture}/{regime}/{figure}.png",
            caption="../report/figure.rst",
            category="2. {dataset}, {regime}",
            subcategory="{architecture}",
            labels={"figure": "{figure}"},
        ),
        pdf="<results>/figures/{dataset}/{architecture}/{regime}/{figure}.pdf",
    log:
        "<logs>/figures/{dataset}/{architecture}/{regime}/{figure}.log",
    benchmark:
        "<benchmarks>/figures/{dataset}/{architecture}/{regime}/{figure}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=4000,
        runtime="30m",
    params:
        settings=flags("grid"),
        results=subpath(output.png, ancestor=5),
        output=lambda wildcards, output: ",".join(output),
    shell:
        "rift figure {wildcards.figure} --results {params.results} {params.settings} --output {params.output} > {log} 2>&1"


# What shows no more than a data set.
use rule figure as dataset_figure with:
    input:
        data=rules.prepare.output.data,
        corrupted=lambda wildcards: collect(
            rules.corrupt.output.images,
            dataset=wildcards.dataset,
            corruption=experiment.corruptions(wildcards.dataset),
        ),
    output:
        png=report(
            "<results>/figures/{dataset}/{figure}.png",
            caption="../report/figure.rst",
            category="2. {dataset}",
            labels={"figure": "{figure}"},
        ),
        pdf="<results>/figures/{dataset}/{figure}.pdf",
    log:
        "<logs>/figures/{dataset}/{figure}.log",
    benchmark:
        "<benchmarks>/figures/{dataset}/{figure}.tsv"
    params:
        settings=flags("grid"),
        results=subpath(output.png, ancestor=3),
        output=lambda wildcards, output: ",".join(output),


# The first page of the report shows it, too.
rule overview:
    input:
        rules.table.input,
    output:
        html=report(
            "<results>/overview.html",
            caption="../report/first_page.rst",
            category="0. Overview",
            labels={"page": "overview"},
        ),
    log:
        "<logs>/overview.log",
    benchmark:
        "<benchmarks>/overview.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=0,
        mem_mb=4000,
        runtime="30m",
    params:
        settings=flags("grid"),
        results=subpath(output.html, parent=True),
    shell:
        "rift overview --results {params.results} {params.settings} --output {output.html} > {log} 2>&1"


rule tables:
    input:
        collect(rules.table.output, table=experiment.report.tables),


rule figures:
    input:
        [
            collect(rules.figure.output, dataset=dataset, architecture=architecture, regime=regime, figure=figures)
            for (dataset, architecture, regime), figures in experiment.figures.items()
        ],
        collect(rules.dataset_figure.output, dataset=grid.datasets, figure=experiment.dataset_figures),
