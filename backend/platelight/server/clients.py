"""The connected clients: their sessions, and everything that is said to them."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import zmq

from platelight.protocol.errors import Busy
from platelight.protocol.frames import Buffer, pack
from platelight.protocol.messages import Message, PlaneInfo, Pong, Progress
from platelight.server.sessions import Session

log = logging.getLogger(__name__)
MAX_SESSIONS, MAX_SESSIONS_OF_ONE = 256, 64
BACKLOG_BYTES, BACKLOG_MESSAGES = 4 * 1024 * 1024, 512
"""What one client may leave unread, when the socket has no room, before its session ends."""


class Clients:
    """Sessions by the identity of their connection, and the sending half of the broker's socket.

    Args:
        socket: a ROUTER socket with ``ROUTER_MANDATORY``, so that a peer that is gone is noticed.
    """

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket
        self._sessions: dict[bytes, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))  # a client found gone is dropped meanwhile

    def get(self, identity: bytes) -> Session | None:
        """The session of a connection that has said hello."""
        return self._sessions.get(identity)

    def open(self, identity: bytes, owner: str) -> Session:
        """Begin a session, or begin it anew.

        Raises:
            Busy: there are as many as the server or one user may have.
        """
        if identity not in self._sessions and self._full(owner):
            self._drop_vanished()
            if self._full(owner):
                raise Busy("The server has as many connections as it takes.", "Try again in a moment.")
        self.drop(identity)
        session = self._sessions[identity] = Session(identity, owner)
        return session

    def drop(self, identity: bytes) -> None:
        """End a session, if there is one, with what it was uploading."""
        session = self._sessions.pop(identity, None)
        if session is not None:
            session.close()

    def expire(self, silent_since: float) -> None:
        """End the sessions that were last heard before this time (``time.monotonic``)."""
        for session in self:
            if session.heard < silent_since:
                self.drop(session.identity)

    def _full(self, owner: str) -> bool:
        own = sum(session.owner == owner for session in self._sessions.values())
        return len(self._sessions) >= MAX_SESSIONS or own >= MAX_SESSIONS_OF_ONE

    def _drop_vanished(self) -> None:
        """Say a word that clients pass over to everybody: the socket knows by then whose connection is gone."""
        for session in self:
            if not session.backlog:
                self._push(session.identity, [session.identity, *pack(Pong(0))])

    def watched(self, key: str) -> bool:
        """Whether anybody waits for a job."""
        return any(key in session.watching for session in self._sessions.values())

    def needed(self) -> set[str]:
        """The jobs for which planes are being sent."""
        return {key for session in self._sessions.values() for key in session.needs}

    def expected(self, owner: str) -> list[PlaneInfo]:
        """The planes that a client is to send, over all its connections."""
        mine = [session for session in self._sessions.values() if session.owner == owner]
        return [upload.info for session in mine for upload in session.uploads.values()]

    def tell(self, key: str, message: Message) -> None:
        """Send a message about a job to all who watch it; anything but progress is the last that they hear of it."""
        for session in self:
            if key in session.watching:
                self.send(session.identity, message)
                if not isinstance(message, Progress):
                    session.watching.discard(key)

    def send(self, identity: bytes, message: Message, body: Buffer | None = None) -> None:
        """Send a message, now or when the client has read what it was sent before; progress may be lost."""
        frames = [identity, *pack(message, body)]
        session = self._sessions.get(identity)
        if (session is None or not session.backlog) and self._push(identity, frames):
            return
        if session is None or isinstance(message, Progress) or identity not in self._sessions:
            return  # progress may be lost, an answer may not
        session.backlog.append(frames)
        size = sum(len(frame) for one in session.backlog for frame in one)
        if size > BACKLOG_BYTES or len(session.backlog) > BACKLOG_MESSAGES:
            log.warning("a client does not read; its session ends")
            self.drop(identity)

    def push_backlogs(self) -> None:
        """Send what the socket had no room for."""
        for session in self:
            while session.backlog and self._push(session.identity, session.backlog[0]):
                if session.backlog:  # cleared if the client turned out to be gone
                    session.backlog.popleft()

    def close(self) -> None:
        """End all sessions."""
        for session in self:
            self.drop(session.identity)

    def _push(self, identity: bytes, frames: list[Buffer]) -> bool:
        """Give frames to the socket; False when the client has as many unread as it may."""
        try:
            self._socket.send_multipart(frames, zmq.DONTWAIT, copy=len(frames) < 3)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self.drop(identity)
        return True
