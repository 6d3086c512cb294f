"""An encoder that computes nothing, to measure and to test the worker without one.

A real grpc.aio server, in a thread of its own. Its vectors say what it was asked: the first value
is the number of events. With `needs_blocks` and `needs_items` it starts without caches and asks for
what it lacks, as the real one does.
"""

import asyncio
import struct
import threading

import grpc
import grpc.aio

from protos.keys import text_digest
from protos.rec.v1 import encoder_pb2, encoder_pb2_grpc, interests_pb2, items_pb2
from protos.segments import split_digests

DIM = 4
N_INTERESTS = 2

Context = grpc.aio.ServicerContext[object, object]


class StubEncoder(encoder_pb2_grpc.EncoderServiceServicer):
    def __init__(
        self, *, port: int = 0, needs_blocks: bool = False, needs_items: bool = False
    ) -> None:
        self.port = port
        self.needs_blocks, self.needs_items = needs_blocks, needs_items
        self.model_version, self.model_sequence = "m-1", 1
        self.codebook_version = f"{7:016x}"
        self.encoded_texts: list[str] = []
        self._memories: dict[bytes, bytes] = {}
        self._texts: set[tuple[str, int]] = set()
        self._gone: set[tuple[str, int]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> "StubEncoder":
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(10), "the stub encoder did not start"
        return self

    def stop(self) -> None:
        assert self._loop is not None, "it was not started"
        assert self._thread is not None, "it was not started"
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)

    def _run(self, started: threading.Event) -> None:
        async def serve() -> None:
            self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
            server = grpc.aio.server()
            encoder_pb2_grpc.add_EncoderServiceServicer_to_server(self, server)
            self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
            await server.start()
            started.set()
            await self._stopping.wait()
            await server.stop(None)

        asyncio.run(serve())

    async def GetModelInfo(
        self, request: encoder_pb2.GetModelInfoRequest, context: Context
    ) -> encoder_pb2.GetModelInfoResponse:
        return encoder_pb2.GetModelInfoResponse(
            model_version=self.model_version,
            codebook_version=self.codebook_version,
            model_sequence=self.model_sequence,
            dim=DIM,
            n_interests=N_INTERESTS,
            n_levels=4,
            segment_size=128,
            recent_size=32,
            n_blocks=4,
            block_depth=4,
        )

    async def EncodeItems(
        self, request: encoder_pb2.EncodeItemsRequest, context: Context
    ) -> encoder_pb2.EncodeItemsResponse:
        self.encoded_texts += [item.text for item in request.items]
        return encoder_pb2.EncodeItemsResponse(
            model_version=self.model_version,
            codebook_version=self.codebook_version,
            items=[self._encoded(item) for item in request.items],
        )

    def _encoded(self, item: encoder_pb2.ItemText) -> encoder_pb2.EncodedItem:
        digest = text_digest(item.text)
        return encoder_pb2.EncodedItem(
            item_id=item.item_id,
            text_digest=digest,
            embedding=items_pb2.Embedding(
                model_version=self.model_version,
                dtype=items_pb2.DTYPE_F16,
                vector=bytes(2 * DIM),
                dim=DIM,
            ),
            codes=items_pb2.ItemCodes(
                codebook_version=self.codebook_version, codes=struct.pack("<I", digest & 0xFFFFFFFF)
            ),
        )

    async def Refresh(
        self, request: encoder_pb2.RefreshRequest, context: Context
    ) -> encoder_pb2.RefreshResponse:
        self._texts |= {(t.item_id, text_digest(t.text)) for t in request.items}
        self._gone |= {(i.item_id, i.text_digest) for i in request.item_gone}
        return encoder_pb2.RefreshResponse(results=[self._result(user) for user in request.users])

    def _result(self, user: encoder_pb2.UserState) -> encoder_pb2.UserResult:
        if user.model_version != self.model_version:
            return encoder_pb2.UserResult(status=encoder_pb2.RESULT_STATUS_STALE_MODEL)
        sent = {block.digest for block in user.blocks}
        names = split_digests(user.block_digests)
        lacking = [name for name in names if name not in sent and name not in self._memories]
        if self.needs_blocks and lacking:
            status = encoder_pb2.RESULT_STATUS_NEED_BLOCKS
            return encoder_pb2.UserResult(status=status, need_blocks=lacking)
        known = self._texts | self._gone
        revisions = zip(user.recent_item_ids, user.recent_text_digests, strict=True)
        items = [
            interests_pb2.RecentItem(item_id=name, text_digest=digest)
            for name, digest in revisions
            if (name, digest) not in known
        ]
        if self.needs_items and items:
            status = encoder_pb2.RESULT_STATUS_NEED_ITEMS
            return encoder_pb2.UserResult(status=status, need_items=items)
        return encoder_pb2.UserResult(
            status=encoder_pb2.RESULT_STATUS_OK,
            interests=self._interests(user),
            closed_blocks=self._close(user),
        )

    def _close(self, user: encoder_pb2.UserState) -> list[encoder_pb2.Block]:
        closed = []
        for block in user.blocks:
            if block.segment:
                self._memories[block.digest] = b"memory of " + block.digest
                closed.append(
                    encoder_pb2.Block(digest=block.digest, memory=self._memories[block.digest])
                )
            elif block.memory:
                self._memories[block.digest] = block.memory
        return closed

    def _interests(self, user: encoder_pb2.UserState) -> interests_pb2.Interests:
        vectors = struct.pack(f"<{N_INTERESTS * DIM}f", user.n_events, *[0.0] * 7)
        return interests_pb2.Interests(
            model_version=self.model_version,
            codebook_version=self.codebook_version,
            model_sequence=self.model_sequence,
            tier=user.tier,
            dtype=items_pb2.DTYPE_F32,
            n_interests=N_INTERESTS,
            dim=DIM,
            vectors=vectors,
            weights=[0.5, 0.5],
        )
