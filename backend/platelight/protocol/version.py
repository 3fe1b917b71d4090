"""The protocol's own version, apart from the package's: two packages that share a protocol version can talk."""

from __future__ import annotations

from collections.abc import Iterable

from platelight.protocol.errors import VersionSkew

PROTOCOL_VERSION = 7
SUPPORTED_VERSIONS: tuple[int, ...] = (7,)


def negotiate(theirs: Iterable[int], ours: Iterable[int] = SUPPORTED_VERSIONS) -> int:
    """Return the highest protocol version that both sides speak.

    Raises:
        VersionSkew: they have none in common; the sentence names both and says which side is older.
    """
    offered, known = set(theirs), set(ours)
    common = offered & known
    if common:
        return max(common)
    older = "client" if max(offered, default=0) < max(known) else "server"
    raise VersionSkew(
        f"The client speaks protocol {_list(offered)}, the server protocol {_list(known)}.",
        f"Update the Platelight {older}.",
    )


def _list(versions: set[int]) -> str:
    return ", ".join(str(version) for version in sorted(versions)) or "none"
