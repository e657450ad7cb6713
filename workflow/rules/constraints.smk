# Included last: Snakemake (issue 4197) constrains the outputs of a rule before it puts in what pathvars stand for, and so misses
# their wildcards; those of rules that are already there it constrains again, as a whole.
wildcard_constraints:
    **{name: names(values) for name, values in cells.items()},
    corruption=names({name for dataset in grid.datasets for name in experiment.corruptions(dataset)}),
    shard="[0-9]+",
    shards="[0-9]+",
    scope=names(grid.scopes),
    variant=names(grid.variants),
    table=names(experiment.report.tables),
    figure=names(experiment.report.figures),
