"""Searches for the largest robust loss in the weight ball, by name.

To add one, write a file here, add a line to ``SEARCHES``, and add its name to
``rift.config.names.SearchName``.
"""

from functools import partial

from rift.config import SearchName
from rift.criticality.search import Search, search_each
from rift.criticality.searches.gradient import gradient
from rift.criticality.searches.pga import pga
from rift.criticality.searches.published import published
from rift.criticality.searches.race import race

SEARCHES: dict[SearchName, Search] = {
    "pga": Search(partial(search_each, pga), balanced=True),
    "published": Search(partial(search_each, published)),
    "gradient": Search(gradient),
    "race": Search(race, balanced=True),
}
