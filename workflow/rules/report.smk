# One file per job represents all of its outputs, because a grid has thousands of them and Snakemake
# checks every one.
rule table:
    input:
        lambda wildcards: below_runs(
            experiment.runs, *layout.needed_files(layout.table_needs(wildcards.table), grid.scopes, grid.variants)
        ),
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
        lineage="<results>/tables/{table}.lineage.json",
    log:
        "<logs>/tables/{table}.log",
    benchmark:
        "<benchmarks>/tables/{table}.tsv"
    threads: 1
    resources:
        gpu=0,
        mem_mb=memory(4000),
        runtime="30m",
    params:
        settings=experiment.flags(None, "grid"),
        results=subpath(output.html, ancestor=2),
        output=lambda wildcards, output: ",".join(output[:-1]),
    shell:
        "exec rift table {wildcards.table} --results {params.results} {params.settings} --output {params.output}"
        " --lineage {output.lineage} > {log} 2>&1"


rule figure:
    input:
        lambda wildcards: below_runs(
            [
                Run(cell, seed)
                for cell in experiment.shown_by(wildcards.figure, cell_of(wildcards))
                for seed in grid.seeds
            ],
            *layout.figure_files(wildcards.figure, grid.scopes, grid.variants),
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
        lineage="<results>/figures/{dataset}/{architecture}/{regime}/{figure}.lineage.json",
    log:
        "<logs>/figures/{dataset}/{architecture}/{regime}/{figure}.log",
    benchmark:
        "<benchmarks>/figures/{dataset}/{architecture}/{regime}/{figure}.tsv"
    threads: 1
    resources:
        gpu=0,
        mem_mb=memory(4000),
        runtime="30m",
    params:
        settings=lambda wildcards: experiment.flags(cell_of(wildcards), "grid"),
        results=subpath(output.png, ancestor=5),
        output=lambda wildcards, output: ",".join(output[:-1]),
    shell:
        "exec rift figure {wildcards.figure} --results {params.results} {params.settings} --output {params.output}"
        " --lineage {output.lineage} > {log} 2>&1"


# Figures of a data set.
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
        lineage="<results>/figures/{dataset}/{figure}.lineage.json",
    log:
        "<logs>/figures/{dataset}/{figure}.log",
    benchmark:
        "<benchmarks>/figures/{dataset}/{figure}.tsv"
    params:
        settings=lambda wildcards: experiment.flags(None, "grid", dataset=wildcards.dataset),
        results=subpath(output.png, ancestor=3),
        output=lambda wildcards, output: ",".join(output[:-1]),


# The first page of the report.
rule overview:
    input:
        below_runs(experiment.runs, *layout.needed_files(layout.DEFAULT_NEEDS, grid.scopes, grid.variants)),
    output:
        html=report(
            "<results>/overview.html",
            caption="../report/first_page.rst",
            category="0. Overview",
            labels={"page": "overview"},
        ),
        lineage="<results>/overview.lineage.json",
    log:
        "<logs>/overview.log",
    benchmark:
        "<benchmarks>/overview.tsv"
    threads: 1
    resources:
        gpu=0,
        mem_mb=memory(4000),
        runtime="30m",
    params:
        settings=experiment.flags(None, "grid"),
        results=subpath(output.html, parent=True),
    shell:
        "exec rift overview --results {params.results} {params.settings} --output {output.html}"
        " --lineage {output.lineage} > {log} 2>&1"


rule tables:
    input:
        collect(rules.table.output, table=experiment.tables),


rule figures:
    input:
        [collect(rules.figure.output, **cell._asdict(), figure=figures) for cell, figures in experiment.figures.items()],
        collect(rules.dataset_figure.output, dataset=experiment.datasets, figure=experiment.dataset_figures),
