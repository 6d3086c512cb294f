"""Why an item stands in a feed: which of the user's own items are near it, and the parts of its
score."""

from collections.abc import Mapping

from protos.rec.v1.interests_pb2 import Interests
from protos.rec.v1.recommend_pb2 import Explanation, ItemSource
from protos.vectors import Floats
from retrieval.merge import Pick

MAX_BECAUSE = 3


def explained(
    pick: Pick, vector: Floats, interests: Interests, recent: Mapping[str, Floats]
) -> Explanation:
    """Explain one item.

    Args:
        vector: of the item. (D,)
        recent: vectors of the user's recent items, by id.
    """
    nearness = {item_id: float(vector @ other) for item_id, other in recent.items()}
    because = sorted(nearness, key=lambda item_id: (-nearness[item_id], item_id))[:MAX_BECAUSE]
    parts = {
        "interest_match": pick.score,
        "interest_weight": interests.weights[pick.interest],
        "nearest_shown_before": pick.nearest,
    }
    source = ItemSource.ITEM_SOURCE_NEW if pick.is_for_new else ItemSource.ITEM_SOURCE_INTEREST
    return Explanation(because_item_ids=because, score_parts=parts, source=source)
