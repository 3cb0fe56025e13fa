"""What the numbers in published masks mean, as the JSON text of the latched topic label_names."""

from __future__ import annotations

import json

import numpy as np

from offroad_seg_core.taxonomy import IGNORE_INDEX, UNKNOWN_COST, Taxonomy


def label_names_json(taxonomy: Taxonomy, cost_table: np.ndarray) -> str:
    """Return taxonomy, ids, names, colours (#rrggbb) and costs, parallel lists in JSON.

    Args:
        taxonomy: The classes.
        cost_table: ``(256,)`` uint8 of Taxonomy.cost_table, with this robot's costs.
    """
    content = {
        'taxonomy': taxonomy.name,
        'ids': [entry.id for entry in taxonomy.classes],
        'names': list(taxonomy.names),
        'colors': ['#' + bytes(entry.color_rgb).hex() for entry in taxonomy.classes],
        'costs': [int(cost_table[entry.id]) for entry in taxonomy.classes],
        'unlabeled_id': IGNORE_INDEX,
        'unknown_cost': UNKNOWN_COST,
    }
    return json.dumps(content)
