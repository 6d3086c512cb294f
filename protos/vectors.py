"""Vectors on the wire become arrays here, and nowhere else.

K interests, D embedding; everything is float32 in memory.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from protos.errors import InvalidInput
from protos.rec.v1.interests_pb2 import Interests
from protos.rec.v1.items_pb2 import Dtype, Embedding

Floats: TypeAlias = npt.NDArray[np.float32]

MAX_DIM = 4096
MAX_INTERESTS = 64

_DTYPES: dict[int, str] = {Dtype.DTYPE_F32: "<f4", Dtype.DTYPE_F16: "<f2"}


def interest_matrix(interests: Interests) -> Floats:
    """Return the (K, D) matrix. Raises InvalidInput when bytes, sizes and weights do not agree."""
    n, dim = interests.n_interests, interests.dim
    if not 1 <= n <= MAX_INTERESTS:
        raise InvalidInput(f"interests has n_interests {n}, not 1 to {MAX_INTERESTS}")
    if len(interests.weights) != n:
        raise InvalidInput(f"interests has {n} vectors and {len(interests.weights)} weights")
    return _floats(interests.vectors, interests.dtype, n, dim, "interests").reshape(n, dim)


def embedding_vector(embedding: Embedding) -> Floats:
    """Return the (D,) vector. Raises InvalidInput when its bytes are not `dim` values."""
    return _floats(embedding.vector, embedding.dtype, 1, embedding.dim, "embedding")


def _floats(raw: bytes, dtype: int, n: int, dim: int, what: str) -> Floats:
    if dtype not in _DTYPES:
        raise InvalidInput(f"{what} has dtype {dtype}; send DTYPE_F32 or DTYPE_F16")
    wire = np.dtype(_DTYPES[dtype])
    if not 1 <= dim <= MAX_DIM or len(raw) != n * dim * wire.itemsize:
        raise InvalidInput(
            f"{what} has {len(raw)} bytes; {n} x {dim} values of {wire.itemsize} bytes expected"
        )
    values = np.frombuffer(raw, wire).astype(np.float32)
    if not np.isfinite(values).all():
        raise InvalidInput(f"{what} holds a value that is not finite")
    return values
