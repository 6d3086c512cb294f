"""Data in: every recognised file becomes the same two Arrow tables, events and items.

from infra.datasets import load

dataset = load("ml-100k")
dataset.events  # user_id, item_id, event_time_ms, action, value
dataset.items   # item_id, title, text, categories, created_at_ms
dataset.report  # what became of every row: kept, filtered by rule, unreadable and why
"""

from infra.datasets.loading import OpenDataset, load, open_dataset
from infra.datasets.report import BadRow, ImportReport
from infra.datasets.tables import EVENTS_SCHEMA, ITEMS_SCHEMA, Dataset, DatasetReport

__all__ = [
    "EVENTS_SCHEMA",
    "ITEMS_SCHEMA",
    "BadRow",
    "Dataset",
    "DatasetReport",
    "ImportReport",
    "OpenDataset",
    "load",
    "open_dataset",
]
