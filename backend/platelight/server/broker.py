"""The broker: one thread, one loop. Answers what clients send and stores planes; computes nothing."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import zmq

from platelight import __version__
from platelight.client.samehost import is_ipv6, is_loopback
from platelight.protocol.errors import (
    AccessDenied,
    Busy,
    MalformedMessage,
    PlatelightError,
    ProtocolError,
    UnknownJob,
    VersionSkew,
)
from platelight.protocol.frames import Buffer, check_planes, job_key, unpack_from_client
from platelight.protocol.messages import (
    CHUNK_BYTES,
    Ask,
    Cancel,
    Chunk,
    ClientMessage,
    Credit,
    Done,
    Failed,
    Fetch,
    Filled,
    Hello,
    JobState,
    Locate,
    Located,
    Message,
    Need,
    Ping,
    Place,
    Placed,
    PlaneInfo,
    Pong,
    Refused,
    Report,
    Submit,
    Watch,
    Welcome,
)
from platelight.protocol.version import negotiate
from platelight.resources import resident_memory
from platelight.server.clients import Clients
from platelight.server.config import GIB, ServeConfig, model_version
from platelight.server.gate import DOMAIN, Gate
from platelight.server.intake import Intake, store_failed
from platelight.server.jobs import CANCELLED, Jobs
from platelight.server.meter import Meter
from platelight.server.pool import Pool
from platelight.server.sessions import Session
from platelight.server.store import Job, Store

log = logging.getLogger(__name__)
SOFTWARE = f"platelight-server {__version__}"
_TICK_MS = 50
_TIDY_SECONDS, _FETCH_SECONDS = 1.0, 1.0
_HWM = 16  # twice the credit; with the backlog, what one client that does not read can hold in memory


class Broker:
    """Serves clients on ``endpoint`` until told to stop.

    Args:
        config, store: what to serve and where it is kept.
        keys: the server's CURVE secret and public key, z85.
        own: public key of the user who runs the server.
        context: ZeroMQ context of the gate, the pool and the broker.
    """

    def __init__(
        self, config: ServeConfig, store: Store, pool: Pool, gate: Gate, secret: str,
        context: zmq.Context[zmq.Socket[bytes]],
    ) -> None:  # fmt: skip
        self._config = config
        self._store = store
        self._pool = pool
        self._gate = gate
        self._meter = Meter()
        self._socket = context.socket(zmq.ROUTER)
        self._clients = Clients(self._socket)
        self._jobs = Jobs(config, store, pool, self._meter, self._tell, self._clients.watched)
        self._model = model_version()
        self._names_files = is_loopback(config.endpoint) and _can_travel(store.blobs.folder)
        store.room.needed = self._clients.needed
        self._intake = Intake(store, self._clients, self._arrived)
        self._started = self._tidied = self._fetched = time.monotonic()
        socket = self._socket
        socket.linger = 0
        socket.ipv6 = is_ipv6(config.endpoint)
        socket.sndhwm = socket.rcvhwm = _HWM
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.MAXMSGSIZE, CHUNK_BYTES + 1024)
        socket.setsockopt(zmq.HEARTBEAT_IVL, 500)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 1000)
        socket.setsockopt(zmq.HANDSHAKE_IVL, 3000)
        socket.curve_server = True
        socket.curve_secretkey = secret.encode("ascii")
        socket.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)

    def bind(self) -> str:
        """Start to listen; returns the endpoint with its true port. Raises zmq.ZMQError."""
        self._socket.bind(self._config.endpoint)
        return self._socket.get_string(zmq.LAST_ENDPOINT)

    def serve(self, stopping: Callable[[], int]) -> None:
        """Serve until ``stopping`` says 1, then finish what runs; 2 ends at once.

        What is not finished within ``drain_seconds`` stays in the store and runs again at the next start. What is
        finished can still be fetched.
        """
        poller = zmq.Poller()
        for socket in (self._socket, self._gate.socket, self._pool.socket):
            poller.register(socket, zmq.POLLIN)
        flushed, until = 0.0, None
        while True:
            now = time.monotonic()
            asked = stopping()
            if asked and until is None:
                until = now + self._config.drain_seconds
                self._jobs.draining = True
                log.info("stopping; %d jobs run, %d wait", self._pool.busy, self._jobs.waiting)
            quiet = not self._pool.busy and now - self._fetched > _FETCH_SECONDS
            if until is not None and (asked > 1 or now >= until or quiet):
                return
            ready = dict(poller.poll(2 if self._intake.busy else _TICK_MS))
            if self._gate.socket in ready:
                self._gate.answer()
            if self._socket in ready:
                self._receive()
            self._intake.step()
            self._clients.push_backlogs()
            self._jobs.step()
            now = time.monotonic()
            if now - flushed >= _TICK_MS / 1000:
                flushed = now
                self._jobs.flush()
                self._clients.expire(now - self._config.session_seconds)
                self._meter.tick(now)
            if now - self._tidied >= _TIDY_SECONDS:
                self._tidied = now
                self._tidy()

    def _tidy(self) -> None:
        try:
            self._intake.catch_up()
            self._store.room.tidy()
            self._store.ballast.fill()
        except (OSError, sqlite3.Error):
            log.exception("the store cannot be tidied")

    def close(self) -> None:
        """Drop all sessions and close the socket."""
        self._clients.close()
        self._intake.close()
        self._socket.close(linger=0)

    # ---- messages in

    def _receive(self) -> None:
        for _ in range(32):  # then look after workers again, however busy clients are
            try:
                identity, *frames = self._socket.recv_multipart(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                return
            owner = str(identity.get("User-Id"))  # type: ignore[arg-type]  # set by the gate, not by the peer
            self._take(identity.bytes, owner, [frame.buffer for frame in frames])

    def _take(self, identity: bytes, owner: str, frames: list[Buffer]) -> None:
        ticket: int | None = None
        try:
            message, body = unpack_from_client(frames)
            ticket = getattr(message, "ticket", None)
            if not self._gate.allows(owner):
                self._clients.drop(identity)
                raise AccessDenied(
                    "The server no longer knows this client's key.", "Ask whoever runs the server."
                )
            if isinstance(message, Hello):
                self._hello(identity, owner, message)
                return
            session = self._clients.get(identity)
            if session is None:
                self._clients.send(identity, Refused("hello_first", "Say hello first.", "", ticket))
                return
            session.heard = time.monotonic()
            self._dispatch(session, message, body)
        except PlatelightError as error:
            self._refuse(identity, error, ticket)
            if isinstance(error, MalformedMessage | ProtocolError):
                log.warning("a client broke the protocol: %s", error)
                self._clients.drop(identity)
        except (OSError, sqlite3.Error) as error:
            log.exception("the store failed")
            self._clients.send(identity, store_failed(error, ticket))
            self._clients.drop(identity)
        except Exception:  # the boundary of a message: a bug here costs one session, not the server
            log.exception("a message could not be handled")
            self._clients.send(identity, Refused("failed", "The server failed on a message.", "", ticket))
            self._clients.drop(identity)

    def _refuse(self, identity: bytes, error: PlatelightError, ticket: int | None = None) -> None:
        self._meter.refused += 1
        retry = error.retry_after if isinstance(error, Busy) else None
        refused = Refused(error.code, error.sentence[:2000], error.remedy[:2000], ticket, retry)
        self._clients.send(identity, refused)

    def _hello(self, identity: bytes, owner: str, hello: Hello) -> None:
        version = negotiate(hello.versions)
        if "raw" not in hello.codecs:
            raise VersionSkew("The client does not offer the codec 'raw'.", "Update the client.")
        self._clients.open(identity, owner)
        models = {"platelight": self._model}
        codec = "mmap" if "mmap" in hello.codecs and self._names_files else "raw"
        self._clients.send(identity, Welcome(version, SOFTWARE, codec, self._config.limits, models))

    def _dispatch(self, session: Session, message: ClientMessage, body: memoryview) -> None:
        match message:
            case Submit():
                self._submit(session, message)
            case Watch():
                job = self._job_of(session, message.key)
                session.watching.add(message.key)
                self._clients.send(session.identity, self._jobs.standing(job))
            case Chunk():
                self._chunk(session, message, body)
            case Cancel():
                self._cancel(session, message.key)
            case Fetch():
                self._fetch(session, message)
            case Place():
                path = session.upload_of(message.plane).place()
                self._clients.send(session.identity, Placed(message.plane, str(path)))
            case Filled():
                self._intake.keep(session, session.upload_of(message.plane))
            case Locate():
                plane = self._result_of(session, message.key, message.plane)
                path = self._store.blobs.path(plane.hash)
                self._clients.send(session.identity, Located(plane.hash, str(path)))
            case Ask():
                self._clients.send(session.identity, self._report(message.ticket))
            case Ping():
                self._clients.send(session.identity, Pong(message.ticket))

    def _submit(self, session: Session, submit: Submit) -> None:
        limits = self._config.limits
        check_planes(submit.planes, limits)
        key = job_key(submit.request, submit.planes, self._model)
        job = self._store.get(key)
        if job is None or job.state is JobState.NEED or self._runs_again(job, submit.fresh):
            self._jobs.check_busy(session.owner)
            if key not in session.needs and len(session.needs) >= self._config.max_jobs_per_client:
                raise Busy("This client is sending for as many jobs as it may.", "Wait for one.")
        missing = self._missing(session, submit)
        while missing:
            self._store.room.make(session.owner, missing.values(), self._clients.expected(session.owner), key)
            still = self._missing(session, submit)
            if still.keys() == missing.keys():
                break
            missing = still  # room was made of what this very job was to use again
        self._meter.submitted += 1
        job = self._store.add(key, submit.request, submit.planes)
        if self._runs_again(job, submit.fresh):
            job = self._store.requeue(key)
        session.watching.add(key)
        asked = tuple(hash for hash in missing if hash not in session.uploads)  # each plane is asked for once
        self._clients.send(session.identity, Need(submit.ticket, key, asked, limits.credit if asked else 0))
        if missing:
            session.expect(key, missing.values(), self._store.blobs, limits.chunk_bytes)
        else:
            self._supplied(session, job)

    def _missing(self, session: Session, submit: Submit) -> dict[str, PlaneInfo]:
        """The planes that a client must send, by their hash."""
        return {plane.hash: plane for plane in submit.planes if not self._store.holds(session.owner, plane)}

    def _runs_again(self, job: Job, fresh: bool) -> bool:
        """Whether the job ended in a way that may be tried again."""
        lost = job.state is JobState.DONE and not self._store.complete(job.outputs)
        retry = fresh and job.state in (JobState.FAILED, JobState.CANCELLED) and job.code != "poisoned"
        return lost or retry

    def _chunk(self, session: Session, chunk: Chunk, body: memoryview) -> None:
        upload = session.upload_of(chunk.plane)
        self._meter.bytes_in += len(body)
        if upload.add(chunk, body):
            self._intake.keep(session, upload)
        self._clients.send(session.identity, Credit(1))

    def _arrived(self, session: Session, plane: PlaneInfo) -> None:
        self._store.arrived(session.owner, plane.hash)
        for key in session.satisfied(plane.hash):
            job = self._store.get(key)
            try:
                if job is None:
                    raise UnknownJob("The job was removed while its planes came.", "Submit it again.")
                self._supplied(session, job)
            except (Busy, UnknownJob) as error:  # which cost the client no connection
                self._refuse(session.identity, error)

    def _supplied(self, session: Session, job: Job) -> None:
        """A client has shown that it has all planes of a job: the job is its own from here on."""
        self._store.own(job.key, session.owner)
        if job.state is JobState.NEED:
            self._jobs.check_busy(session.owner)
            self._jobs.enqueue(job.key)
        self._clients.send(session.identity, self._jobs.standing(self._store.get(job.key) or job))

    def _cancel(self, session: Session, key: str) -> None:
        if key not in session.watching:
            self._job_of(session, key)
        session.forget(key)
        self._clients.send(session.identity, Failed(key, CANCELLED.code, CANCELLED.sentence))
        job = self._store.get(key)
        if job is None:
            return
        self._tell(
            key, self._jobs.standing(job)
        )  # a watcher whose connection is gone is found and dropped by this
        if not self._clients.watched(key):
            self._jobs.cancel(job)

    def _fetch(self, session: Session, fetch: Fetch) -> None:
        plane = self._result_of(session, fetch.key, fetch.plane)
        chunk_bytes = self._config.limits.chunk_bytes
        if fetch.offset >= plane.nbytes or fetch.offset % chunk_bytes:
            raise ProtocolError(f"There is no chunk at {fetch.offset} of the plane '{plane.name}'.")
        try:
            data = self._store.blobs.read(plane.hash, fetch.offset, chunk_bytes)
        except FileNotFoundError as error:
            raise UnknownJob("The job's result has been removed.", "Submit it again.") from error
        self._meter.bytes_out += len(data)
        self._clients.send(session.identity, Chunk(plane.hash, fetch.offset), data)

    def _result_of(self, session: Session, key: str, hash: str) -> PlaneInfo:
        self._fetched = time.monotonic()
        job = self._job_of(session, key)
        plane = next((one for one in job.outputs if one.hash == hash), None)
        if plane is None or job.state is not JobState.DONE:
            raise UnknownJob("The job has no such plane.", "Submit it again.")
        return plane

    def _job_of(self, session: Session, key: str) -> Job:
        job = self._store.get(key) if self._store.owns(key, session.owner) else None
        if job is None:
            raise UnknownJob("The server has no such job of this client.", "Submit it again.")
        return job

    def _tell(self, key: str, message: Message) -> None:
        if isinstance(message, Done):
            self._fetched = time.monotonic()
        self._clients.tell(key, message)

    def _report(self, ticket: int) -> Report:
        store, pool = self._store, self._pool
        return Report(
            ticket, SOFTWARE, time.monotonic() - self._started, store.counts(), pool.report(),
            resident_memory(), store.room.size(), int(self._config.quota_gib * GIB), len(self._clients),
            self._jobs.waiting, self._jobs.draining, self._meter.totals(pool.lost), self._meter.rates(),
        )  # fmt: skip


def _can_travel(folder: Path) -> bool:
    """True when the paths of files in a folder can be told in a message."""
    try:
        return len(str(folder).encode()) < 3800
    except UnicodeEncodeError:
        return False  # its name is no UTF-8
