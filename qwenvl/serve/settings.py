"""What a server allows: who may ask, and how much of everything one request may bring. Sizes in bytes, areas in pixels, seconds."""

from __future__ import annotations

from dataclasses import dataclass, field

from qwenvl.processing.hosts import normal_host, split_host
from qwenvl.types import QwenVLError

MIB = 1 << 20

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
"""What a server that is bound to the loopback address may be called. A page of another site that had its own name point at this
machine (DNS rebinding) calls it something else."""


@dataclass(frozen=True)
class MediaLimits:
    """What the pictures and clips of one request may be."""

    hosts: tuple[str, ...] = ()
    """Hosts that media may be fetched from ("example.org", "*.example.org", "example.org:8443"); none by default."""
    count: int = 64
    """Pictures and clips of one request."""
    picture_bytes: int = 32 * MIB
    picture_pixels: int = 64_000_000
    """Of one picture, as its header says; nothing is decoded above it."""
    total_pixels: int = 192_000_000
    """Of all pictures of one request."""
    clip_bytes: int = 64 * MIB
    clip_seconds: float = 3600.0
    clip_frames: int = 250_000
    """In the file, whether drawn or not."""
    frame_pixels: int = 9_000_000
    """Of one frame of a clip: 4096 x 2160 and a little."""
    drawn_frames: int = 768
    """Frames that one clip may be seen by."""
    fetch_seconds: float = 20.0
    """For one address: name, connection, redirects and all bytes."""
    redirects: int = 3

    def __post_init__(self) -> None:
        for entry in self.hosts:
            name, port = split_host(entry)
            possible = port is None or 0 < port < 65536
            if not possible or normal_host(name.removeprefix("*.").strip("[]")) is None:
                raise QwenVLError(f"{entry}: no host for media to come from; write example.org, *.example.org or example.org:8443")


@dataclass(frozen=True)
class ServerSettings:
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    """Any of them opens the API; without one it is open to whoever reaches the port."""
    hosts: tuple[str, ...] | None = LOOPBACK_NAMES
    """Names that requests may be addressed to, without port; None: any."""
    media: MediaLimits = field(default_factory=MediaLimits)

    body_bytes: int = 64 * MIB
    bodies_bytes: int = 512 * MIB
    """Of all requests that are being read or decoded at one time."""
    body_seconds: float = 60.0
    """For a whole body."""
    idle_seconds: float = 10.0
    """Between two pieces of a body, and for a request's head."""
    json_depth: int = 64
    json_values: int = 200_000

    encoders: int = 2
    """Threads that decode pictures and render prompts."""
    waiting: int = 256
    """Requests that may wait for one of them."""
    request_seconds: float = 600.0
    """From arrival to the last token."""
    send_seconds: float = 30.0
    """For a client to take something of what was sent."""
    keep_alive_seconds: float = 15.0
    """Between two signs of life in a stream."""
    grace_seconds: float = 30.0
    """For answers under way when the server is told to stop."""

    def __post_init__(self) -> None:
        if any(not key.strip() or key != key.strip() or not key.isascii() or not key.isprintable() for key in self.api_keys):
            raise QwenVLError("an API key must be printable ASCII characters, without blanks around them; give another")
