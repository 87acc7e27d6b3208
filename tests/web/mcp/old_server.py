"""An MCP server of the 2025-06-18 protocol over stdio, without an SDK: ``python old_server.py FOLDER``.

Every line that it is sent is kept in ``FOLDER/said``. Its tool ``slow`` never answers; ``grow`` changes the list, as
``FOLDER/extra`` does at its start; ``flood`` writes a line without an end; ``ask`` asks the client for its roots.
"""

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

SAID = Path(sys.argv[1]) / "said"
tools = ["slow", "grow", "flood", "ask", "wrong", "quiet", "die", "peek"]


def send(**message: Any) -> None:
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def text(number: Any, words: str) -> None:
    send(id=number, result={"content": [{"type": "text", "text": words}]})


def call(number: Any, parameters: dict[str, Any]) -> None:
    name, token = parameters["name"], parameters.get("_meta", {}).get("progressToken")
    if name == "slow":
        send(method="notifications/progress", params={"progressToken": token, "progress": 1, "message": "begun"})
    elif name == "grow":
        tools.append("ebb")
        send(method="notifications/tools/list_changed")
        text(number, "grown")
    elif name == "flood":
        while True:
            sys.stdout.write("x" * (1 << 20))
    elif name == "peek":
        text(number, json.dumps(peek(parameters["arguments"])))
    elif name == "die":
        os.kill(os.getpid(), 9)
    elif name == "ask":
        send(id="roots", method="roots/list")
        text(number, "asked")
    elif name == "wrong":
        send(id=number, result={"content": "no list"})
    elif name == "quiet":
        send(id=number, error={"code": -32602, "message": "say louder"})


def peek(wanted: dict[str, Any]) -> dict[str, bool]:
    """What of the machine can be had from here."""
    try:
        read = bool(Path(wanted["file"]).read_text())
    except OSError:
        read = False
    try:
        with socket.create_connection(("127.0.0.1", wanted["port"]), 5):
            connected = True
    except OSError:
        connected = False
    return {"file": read, "network": connected, "process": Path(f"/proc/{wanted['pid']}").exists()}


def answer(message: dict[str, Any]) -> None:
    method, number = message.get("method"), message.get("id")
    if method == "initialize":
        about = {"protocolVersion": "2025-06-18", "serverInfo": {"name": "old", "version": "1"}}
        send(id=number, result={**about, "capabilities": {"tools": {"listChanged": True}}})
    elif method == "tools/list":
        listed = [{"name": name, "inputSchema": {"type": "object"}} for name in tools]
        send(id=number, result={"tools": listed})
    elif method == "tools/call":
        call(number, message["params"])
    elif number is not None and method is not None:
        send(id=number, error={"code": -32601, "message": "Method not found"})


if (SAID.parent / "extra").exists():
    tools.append("ebb")
(SAID.parent / "pid").write_text(str(os.getpid()))
for line in sys.stdin:
    with SAID.open("a") as file:
        file.write(line)
    answer(json.loads(line))
