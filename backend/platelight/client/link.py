"""One connection to a server: CURVE handshake, hello, messages in and out, and knowing when it is lost.

The socket's monitor is what tells why a handshake failed and that a peer has frozen (ZMTP heartbeats); a plain
DEALER would retry for ever without a word.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import zmq
from zmq.utils.monitor import recv_monitor_message

from platelight.client.keys import KeyPair
from platelight.client.samehost import is_ipv6, is_loopback
from platelight.protocol.errors import AccessDenied, ConnectionFailed, ProtocolError, error_from_code
from platelight.protocol.frames import Buffer, pack, unpack_from_server
from platelight.protocol.messages import (
    CHUNK_BYTES,
    Hello,
    Message,
    Ping,
    Pong,
    Refused,
    ServerMessage,
    Welcome,
)
from platelight.protocol.version import SUPPORTED_VERSIONS

HEARTBEAT_MS = 500
HEARTBEAT_TIMEOUT_MS = 1000
HANDSHAKE_MS = 1000
_DENIED_AFTER = 3  # a handshake cut short without detail may be a server that is just going down
_SILENCE = 10.0
CODECS = ("raw",)
SAME_HOST_CODECS = ("mmap", "raw")


class LinkLost(Exception):  # noqa: N818
    """The connection is gone; the server may come back."""


class Link:
    """One authenticated connection, ready for messages once built.

    Raises:
        ConnectionFailed: nothing answers within ``timeout`` seconds.
        AccessDenied: the server refuses this client's key, or is not the server whose key was given.
        VersionSkew: no protocol version in common.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        server_key: str,
        keys: KeyPair,
        timeout: float,
        software: str,
        same_host: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self._codecs = SAME_HOST_CODECS if same_host and is_loopback(endpoint) else CODECS
        self._heard = time.monotonic()
        self._said = self._heard
        self._connected = False
        self._failures = 0
        self._socket = context.socket(zmq.DEALER)
        self._monitor: zmq.Socket[bytes] | None = None
        try:
            self._configure(server_key, keys)
            self._monitor = self._socket.get_monitor_socket()
            self._poller = zmq.Poller()
            self._poller.register(self._socket, zmq.POLLIN)
            self._poller.register(self._monitor, zmq.POLLIN)
            try:
                self._socket.connect(endpoint)
            except zmq.ZMQError as error:
                raise ConnectionFailed(
                    f"'{endpoint}' is no address of a server.", "Write it as tcp://host:port."
                ) from error
            self.welcome = self._open(time.monotonic() + timeout, software)
        except BaseException:
            self.close()
            raise

    def _configure(self, server_key: str, keys: KeyPair) -> None:
        socket = self._socket
        socket.linger = 0
        socket.ipv6 = is_ipv6(self.endpoint)
        socket.sndhwm = socket.rcvhwm = 64
        socket.setsockopt(zmq.MAXMSGSIZE, CHUNK_BYTES + 1024)
        socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL, 100)
        # libzmq waits 30 s for a server that took the connection while it was out of files: try again sooner
        socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        try:
            socket.curve_serverkey = server_key.encode("ascii")
            socket.curve_publickey = keys.public.encode("ascii")
            socket.curve_secretkey = keys.secret.encode("ascii")
        except (zmq.ZMQError, ValueError) as error:
            raise AccessDenied(
                f"The key given for {self.endpoint} is no key.", "Keys are 40 characters of z85 text."
            ) from error

    def _open(self, deadline: float, software: str) -> Welcome:
        while not self._connected:
            self._wait(deadline)
            self._watch()
        self.send(Hello(SUPPORTED_VERSIONS, software, self._codecs))
        while True:
            for message, _ in self.receive(max(0.0, min(0.1, deadline - time.monotonic()))):
                if isinstance(message, Welcome):
                    return message
                if isinstance(message, Refused):
                    raise error_from_code(message.code, message.sentence, message.remedy)
            self._wait(deadline, 0.0)

    def _wait(self, deadline: float, longest: float = 0.1) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise ConnectionFailed(
                f"No server answers at {self.endpoint}.",
                "Start one with 'platelight serve', or check the address.",
            )
        if longest:
            self._poller.poll(int(min(left, longest) * 1000) + 1)

    def _watch(self) -> None:
        assert self._monitor is not None
        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)["event"]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._connected = True
            elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                raise AccessDenied(
                    f"The server at {self.endpoint} does not know this client's key.",
                    "Add this client's public key to the server's list.",
                )
            elif event in (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL):
                self._failures += 1
                if self._failures >= _DENIED_AFTER:
                    raise AccessDenied(
                        f"What answers at {self.endpoint} is not the server whose key is on file.",
                        "Check the address, or take the server's present public key.",
                    )
            elif event == zmq.EVENT_DISCONNECTED and self._connected:
                raise LinkLost(f"The connection to {self.endpoint} was lost.")

    def send(self, message: Message, body: Buffer | None = None) -> None:
        """Send one message. Raises LinkLost when the socket takes no more."""
        self._said = time.monotonic()
        try:
            self._socket.send_multipart(pack(message, body), zmq.DONTWAIT, copy=body is None)
        except zmq.ZMQError as error:
            raise LinkLost(f"The connection to {self.endpoint} takes no more: {error}.") from error

    def receive(self, timeout: float) -> Iterator[tuple[ServerMessage, memoryview]]:
        """Yield the messages that come within ``timeout`` seconds; at most a few dozen at once.

        Raises:
            LinkLost: the connection broke, or nothing was heard for ten seconds in spite of pings.
            ProtocolError: the server sent what is no message.
        """
        ready = dict(self._poller.poll(int(timeout * 1000)))
        if self._monitor in ready:
            self._watch()
        self._keep_alive(time.monotonic(), self._socket in ready)
        if self._socket not in ready:
            return
        for _ in range(32):
            try:
                frames = self._socket.recv_multipart(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                return
            message, body = unpack_from_server([frame.buffer for frame in frames])
            if not isinstance(message, Pong):
                yield message, body

    def _keep_alive(self, now: float, heard: bool) -> None:
        if heard:
            self._heard = now
        elif now - self._heard > _SILENCE:
            raise LinkLost(f"The server at {self.endpoint} has fallen silent.")
        if now - self._said > _SILENCE / 4:  # also while it talks to us: it forgets clients that say nothing
            self.send(Ping(0))

    def close(self) -> None:
        """Close the sockets; never blocks."""
        if self._monitor is not None:
            self._socket.disable_monitor()
            self._monitor.close(linger=0)
            self._monitor = None
        self._socket.close(linger=0)


__all__ = ["Link", "LinkLost", "ProtocolError"]
