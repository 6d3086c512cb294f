"""The data sets known by name: under which licence they come, and how to get each."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KnownDataset:
    name: str
    title: str
    licence: str
    how_to_get: str


_GROUPLENS = "MovieLens (GroupLens): for research; neither redistribution nor commercial use"

KNOWN = {
    known.name: known
    for known in (
        KnownDataset(
            "ml-100k",
            "MovieLens-100K: 100,000 ratings of films, to the second",
            _GROUPLENS,
            "run `freshet data fetch ml-100k`",
        ),
        KnownDataset(
            "ml-1m",
            "MovieLens-1M: 1,000,209 ratings of films",
            _GROUPLENS,
            "get ml-1m.zip from GroupLens, unpack it (ratings.dat, movies.dat), and name the "
            "folder that holds ml-1m/ by --data or FRESHET_DATA",
        ),
        KnownDataset(
            "online-retail",
            "Online Retail: 541,909 lines of a gift shop's invoices, to the minute",
            "UCI Machine Learning Repository, CC BY 4.0",
            "get Online Retail from the UCI repository as CSV files (InvoiceNo, StockCode, "
            "Description, ...) in a folder online-retail/, and name the folder that holds it by "
            "--data or FRESHET_DATA",
        ),
    )
}
