"""Item models, one file each: they score the items of the whole catalogue, and find the best of them.

``recommendation.sources`` names them: modules of this package, those of installed packages, and any by its dotted path.
A module defines one subclass of `reclora_kedro.candidates.item_model.ItemModel`.
"""

from reclora_kedro.extensions import Registry

# Their names do not stand here: the recipe of a node that reads this module counts those that its parameters name.
ITEM_MODELS = Registry(
    "reclora_kedro.candidates",
    helpers=("ease", "item_model", "moments", "next_item", "sparse_ease", "transitions"),
)
