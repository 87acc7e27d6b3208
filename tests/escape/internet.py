"""An internet that is this machine alone: every address there is leads back here, and nothing leads out.

``enter()`` moves this process into network and user namespaces of its own, where loopback is up and all addresses are
local to it. So real sockets can stand at 169.254.169.254, at 10.0.0.5 or at a public address, on port 80, without
touching anything else. Linux with user namespaces, one thread.
"""

import ctypes
import os
import socket
import struct

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
RTM_NEWLINK, RTM_NEWROUTE = 16, 24
NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE = 0x1, 0x4, 0x400
IFF_UP = 0x1
RT_TABLE_LOCAL, RTPROT_BOOT, RT_SCOPE_HOST, RTN_LOCAL, RTA_OIF = 255, 3, 254, 2, 4
LOOPBACK = 1


def enter() -> None:
    """Raises OSError where namespaces may not be made."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "no namespaces of one's own")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        _ask(kernel, RTM_NEWLINK, struct.pack("=BxHiII", socket.AF_UNSPEC, 0, LOOPBACK, IFF_UP, IFF_UP))
        for family in (socket.AF_INET, socket.AF_INET6):
            _ask(kernel, RTM_NEWROUTE, _everything_is_here(family))


def _everything_is_here(family: int) -> bytes:
    """``ip route add local default dev lo``."""
    scope = RT_SCOPE_HOST if family == socket.AF_INET else 0
    route = struct.pack("=BBBBBBBBI", family, 0, 0, 0, RT_TABLE_LOCAL, RTPROT_BOOT, scope, RTN_LOCAL, 0)
    return route + struct.pack("=HHI", 8, RTA_OIF, LOOPBACK)


def _ask(kernel: socket.socket, kind: int, body: bytes) -> None:
    flags = NLM_F_REQUEST | NLM_F_ACK | (NLM_F_CREATE if kind == RTM_NEWROUTE else 0)
    kernel.send(struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body)
    (error,) = struct.unpack_from("=i", kernel.recv(4096), 16)
    if error != 0:
        raise OSError(-error, os.strerror(-error))
